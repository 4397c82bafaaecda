"""The batching engine: one step loop makes the tokens of all requests of a model.

`schedule` decides (no torch), `compute` computes (no policy), `loop` joins them.
"""
