"""The networks; the only place that names flax.linen."""
