"""A generalist with specialists: networks that know a few classes that are easily confused, and one dustbin class.

Source: Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network, section 5.
"""
