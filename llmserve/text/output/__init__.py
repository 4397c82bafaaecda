"""What a model's text means: a parser between the detokenized deltas and their writer.

A parser runs on the event loop, for each generation one, after the mailbox has merged what a slow
reader left: it sees few, larger deltas. Stop strings are matched before it, on the raw text, as
they come from the model: a client that names one knows the model's own syntax, and what generation
costs must not depend on how its text is read.
"""

from llmserve.text.output.parser import IdentityParser, OutputParser

__all__ = ["IdentityParser", "OutputParser"]
