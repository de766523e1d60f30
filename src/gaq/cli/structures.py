"""Starting structures: files, names of ASE's G2 set, and the names that people use."""

from pathlib import Path
from typing import TYPE_CHECKING

from gaq.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from gaq.graph import Structure

NAMES = {
    "acetaldehyde": "CH3CHO", "acetamide": "CH3CONH2", "acetic acid": "CH3COOH", "acetone": "CH3COCH3",
    "acetonitrile": "CH3CN", "acetylene": "C2H2", "ammonia": "NH3", "aziridine": "CH2NHCH2", "benzene": "C6H6",
    "chloroform": "HCCl3", "chloromethane": "CH3Cl", "cyclopropane": "C3H6_D3h", "dimethyl ether": "CH3OCH3",
    "dimethylamine": "C2H6NH", "dmso": "C2H6SO", "ethane": "C2H6", "ethanethiol": "CH3CH2SH", "ethanol": "CH3CH2OH",
    "ethylamine": "CH3CH2NH2", "ethylene": "C2H4", "formaldehyde": "H2CO", "formic acid": "HCOOH", "furan": "C4H4O",
    "glyoxal": "OCHCHO", "hydrazine": "N2H4", "hydrogen peroxide": "H2O2", "isopropanol": "C2H6CHOH", "ketene": "H2CCO",
    "methane": "CH4", "methanethiol": "CH3SH", "methanol": "CH3OH", "methyl formate": "HCOOCH3",
    "methylamine": "H3CNH2", "nitromethane": "CH3NO2", "oxirane": "CH2OCH2", "propane": "C3H8", "propene": "C3H6_Cs",
    "propyne": "C3H4_C3v", "pyridine": "C5H5N", "pyrrole": "C4H4NH", "thiophene": "C4H4S", "trimethylamine": "C3H9N",
    "water": "H2O",
}


def read_structure(name_or_path: str) -> "Structure":
    """Return the last structure of a file, or a small molecule by its name (ethanol) or its name in ASE (CH3CH2OH).

    Raises:
        DataError: neither a file nor a known molecule, or a file that cannot be read.
    """
    from gaq.data.label import structure_from

    if not Path(name_or_path).expanduser().exists():
        common = name_or_path.lower().replace("-", " ").replace("_", " ")
        if common in NAMES:
            return structure_from(NAMES[common])
        suggestion = did_you_mean(common, NAMES)
        if suggestion:
            raise DataError(f"{name_or_path} is neither a file nor a molecule that gaq knows{suggestion}")
    return structure_from(name_or_path)
