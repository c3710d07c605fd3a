"""The stages of the chain: what each reads, its config and how it is built."""
