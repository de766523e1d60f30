"""Results as tables, plots and one HTML page. Reads results files; knows nothing of models, data or training."""

from gaq.report.page import write_page
from gaq.report.records import read_results
from gaq.report.tables import comparison_table

__all__ = ["comparison_table", "read_results", "write_page"]
