"""How many texts a second become embeddings, beside other servers."""
