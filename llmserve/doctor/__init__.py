"""What goes wrong with token streams between a client and a server, and what to change.

A client of any URL: it measures through whatever is in between, and knows no server code.
"""

from llmserve.doctor.examination import examine
from llmserve.doctor.finding import Finding, Verdict
from llmserve.doctor.rendering import render
from llmserve.doctor.report import Report
from llmserve.doctor.target import Target

__all__ = ["Finding", "Report", "Target", "Verdict", "examine", "render"]
