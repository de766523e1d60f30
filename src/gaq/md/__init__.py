"""Molecular dynamics through ASE: a calculator, and a driver that survives kills, full disks and explosions."""
