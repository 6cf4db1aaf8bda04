"""Pure JAX on pixels: random views, normalisation, descriptors."""
