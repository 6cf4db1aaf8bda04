"""One vision transformer (Dosovitskiy et al. 2021) with the switches of its descendants.

DINOv2 (Oquab et al. 2024), with registers (Darcet et al. 2024), DINOv3 (Siméoni et al. 2025),
CLIP's image tower (Radford et al. 2021), SigLIP 2 (Tschannen et al. 2025). vit_names.py reads
their files.
"""

import math
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxclust.models.encoders.named_layers import Encoder, coloured

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "silu_gated"]
ROTARY_BASE = 100.0


class Shape(NamedTuple):
    """What a transformer is made of."""

    width: int
    depth: int
    heads: int
    patch: int
    grid: int  # patches a side
    hidden: int  # of its MLPs, half of a gated one's first product
    class_token: bool
    registers: int
    # table: a vector for each position, including the class token's if `class_position`;
    # rotary: patches' queries and keys are turned (Su et al. 2024).
    positions: Literal["table", "rotary"]
    class_position: bool
    layer_scale: bool
    first_norm: bool  # before the blocks (CLIP)
    activation: Activation
    epsilon: float  # of layer norms
    pooling: Literal["token", "attention"]
    output: int | None = None  # width that a last product takes the pooled vector to


class VisionTransformer(Encoder):
    """Images [b, side, side, 1 or 3] -> vectors [b, width or output], of their dtype.

    Parameters have the names of vit_names.py, so that a file's fit without a table. Layer norms
    and softmax are float32 at least.
    """

    shape: Shape | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        del train
        assert self.shape is not None
        s, x = self.shape, coloured(x)
        b = x.shape[0]
        cells = x.reshape(b, s.grid, s.patch, s.grid, s.patch, 3).transpose(0, 1, 3, 2, 4, 5)
        x = self._linear(cells.reshape(b, s.grid**2, -1), "patch", s.width)
        first = []
        if s.class_token:
            token = self._vector("class_token", (1, s.width), x)
            first.append(jnp.broadcast_to(token, (b, 1, s.width)))
        if s.positions == "table":
            table = self._vector("positions", (s.grid**2, s.width), x)
            x = x + table[None]
            if s.class_position:
                first[0] = first[0] + self._vector("class_position", (1, s.width), x)[None]
        if s.registers:
            registers = self._vector("registers", (s.registers, s.width), x)
            first.append(jnp.broadcast_to(registers, (b, s.registers, s.width)))
        x = jnp.concatenate([*first, x], axis=1)
        if s.first_norm:
            x = self._norm(x, "first_norm")
        turn = rotations(s.grid, s.width // s.heads) if s.positions == "rotary" else None
        for i in range(s.depth):
            x = self._block(x, f"block{i}", turn)
        return self._pooled(x)

    def _pooled(self, x: Array) -> Array:
        s = self.shape
        assert s is not None
        x = self._norm(x, "norm")
        x = x[:, 0] if s.pooling == "token" else self._attention_pool(x)
        if s.output is not None:
            x = x @ self._vector("output", (s.width, s.output), x)
        return x

    def _block(self, x: Array, name: str, turn: tuple[Array, Array] | None) -> Array:
        s = self.shape
        assert s is not None
        y = self._linear(self._norm(x, f"{name}_norm1"), f"{name}_qkv", 3 * s.width)
        q, k, v = jnp.split(y, 3, axis=-1)
        y = self._linear(self._attend(q, k, v, turn), f"{name}_proj", s.width)
        x = x + self._scaled(y, f"{name}_scale1")
        y = self._mlp(self._norm(x, f"{name}_norm2"), name)
        return x + self._scaled(y, f"{name}_scale2")

    def _attend(self, q: Array, k: Array, v: Array, turn: tuple[Array, Array] | None) -> Array:
        """Multi-head attention of queries [b, m, c] to keys and values [b, n, c]."""
        s = self.shape
        assert s is not None
        q, k, v = (a.reshape(*a.shape[:2], s.heads, -1) for a in (q, k, v))
        if turn is not None:
            q, k = turned(q, turn), turned(k, turn)
        weights = jnp.einsum("bmhd,bnhd->bhmn", q * (q.shape[-1] ** -0.5), k)
        weights = jax.nn.softmax(weights.astype(jnp.promote_types(weights.dtype, jnp.float32)))
        found = jnp.einsum("bhmn,bnhd->bmhd", weights.astype(v.dtype), v)
        return found.reshape(*found.shape[:2], -1)

    def _mlp(self, x: Array, name: str) -> Array:
        s = self.shape
        assert s is not None
        gated = s.activation == "silu_gated"
        y = self._linear(x, f"{name}_fc1", 2 * s.hidden if gated else s.hidden)
        if gated:
            gate, value = jnp.split(y, 2, axis=-1)
            y = jax.nn.silu(gate) * value
        elif s.activation == "quick_gelu":
            y = y * jax.nn.sigmoid(1.702 * y)
        else:
            y = jax.nn.gelu(y, approximate=s.activation == "gelu_tanh")
        return self._linear(y, f"{name}_fc2", s.width)

    def _attention_pool(self, x: Array) -> Array:
        """A learned query's attention to all tokens, and an MLP (SigLIP)."""
        s = self.shape
        assert s is not None
        latent = self._vector("pool_latent", (1, s.width), x)
        q = self._linear(jnp.broadcast_to(latent, (x.shape[0], 1, s.width)), "pool_q", s.width)
        k, v = jnp.split(self._linear(x, "pool_kv", 2 * s.width), 2, axis=-1)
        x = self._linear(self._attend(q, k, v, None), "pool_proj", s.width)
        return (x + self._mlp(self._norm(x, "pool_norm"), "pool"))[:, 0]

    def _linear(self, x: Array, name: str, width: int) -> Array:
        kernel = self._vector(f"{name}_kernel", (x.shape[-1], width), x)
        return x @ kernel + self._vector(f"{name}_bias", (width,), x).reshape(
            (1,) * (x.ndim - 1) + (-1,)
        )

    def _scaled(self, x: Array, name: str) -> Array:
        assert self.shape is not None
        if not self.shape.layer_scale:
            return x
        return x * self._vector(name, (x.shape[-1],), x)[None, None]

    def _norm(self, x: Array, name: str) -> Array:
        """Layer norm (Ba et al. 2016)."""
        assert self.shape is not None
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean = jnp.mean(wide, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(wide - mean), axis=-1, keepdims=True)
        y = (wide - mean) * jax.lax.rsqrt(variance + self.shape.epsilon)
        scale = self._vector(f"{name}_scale", (x.shape[-1],), wide)
        bias = self._vector(f"{name}_bias", (x.shape[-1],), wide)
        return (y * scale[None, None] + bias[None, None]).astype(x.dtype)

    def _vector(self, name: str, shape: tuple[int, ...], like: Array) -> Array:
        """A parameter, in the dtype of what it meets."""
        start = nn.initializers.normal(0.02)
        return self.param(name, start, shape, jnp.float32).astype(like.dtype)


def rotations(grid: int, width: int) -> tuple[Array, Array]:
    """Cosines and sines [grid^2, width] of DINOv3's angles, of patches' centres in [-1, 1]."""
    centres = (jnp.arange(grid, dtype=jnp.float32) + 0.5) / grid * 2 - 1
    places = jnp.stack(jnp.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(-1, 2)
    frequencies = ROTARY_BASE ** -jnp.arange(0, 1, 4 / width, dtype=jnp.float32)
    angles = 2 * math.pi * places[:, :, None] * frequencies[None, None]
    angles = jnp.tile(angles.reshape(len(places), -1), (1, 2))
    return jnp.cos(angles), jnp.sin(angles)


def turned(x: Array, turn: tuple[Array, Array]) -> Array:
    """Queries or keys [b, n, h, d], the patches among them (the last) turned."""
    cosine, sine = (part[None, :, None].astype(x.dtype) for part in turn)
    before = x.shape[1] - cosine.shape[1]
    patches = x[:, before:]
    low, high = jnp.split(patches, 2, axis=-1)
    patches = patches * cosine + jnp.concatenate([-high, low], axis=-1) * sine
    return jnp.concatenate([x[:, :before], patches], axis=1)
