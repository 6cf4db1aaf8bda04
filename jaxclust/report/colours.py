"""Colours that colour-blind people can tell apart."""

# Okabe and Ito's (2008), without black, and without yellow, hard to see on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A8A")
