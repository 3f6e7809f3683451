"""
Results as one page of HTML, for people who would rather look.
"""

from ._page import Section, check_report_path, write_report
from ._sections import benchmark_sections, diagnosis_sections, search_sections

__all__ = [
    "Section",
    "benchmark_sections",
    "check_report_path",
    "diagnosis_sections",
    "search_sections",
    "write_report",
]
