"""`python -m llmserve`."""

from llmserve.cli import main

main()
