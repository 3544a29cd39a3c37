"""The model: a language model whose vocabulary also holds image codes, and ARRA's alignment."""
