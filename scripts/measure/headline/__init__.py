"""The headline benchmark: one simulated 500 ms model behind Flask/Gunicorn and behind llmserve.

The model is a real folder with modelling code of its own (`modeling_simulated.py`), so both
sides load it with transformers and call `model.generate`; nothing of llmserve is bypassed.
"""
