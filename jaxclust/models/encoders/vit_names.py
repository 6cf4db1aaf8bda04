"""Vision transformers' weight files, read by parameter name into :class:`VisionTransformer`'s.

Known are DINOv2 (its own repository's names, timm's, Hugging Face's), DINOv3 (its own and Hugging
Face's), CLIP's and OpenCLIP's image tower, and timm's plain and SigLIP transformers.
"""

from collections.abc import Mapping

import numpy as np

from jaxclust.core.errors import InputError, first_line
from jaxclust.models.encoders.position_tables import resampled
from jaxclust.models.encoders.vision_transformer import Activation
from jaxclust.models.encoders.vit_parameters import (
    SIDE,
    Arrays,
    Found,
    Reader,
    add_places,
    fitting,
    found,
    joined,
    patch_of,
    with_heads,
)


def _timm_blocks(read: Reader, gated: bool) -> Arrays:
    """Blocks by the names of timm and of DINO's repositories."""
    params: Arrays = {}
    for i in range(read.depth("blocks.")):
        of, to = f"blocks.{i}.", f"block{i}_"
        params |= read.norm(f"{of}norm1", f"{to}norm1") | read.norm(f"{of}norm2", f"{to}norm2")
        params |= read.linear(f"{of}attn.qkv", f"{to}qkv")
        if read.has(f"{of}attn.qkv.bias_mask"):  # DINOv3's: none for keys
            params[f"{to}qkv_bias"] = params[f"{to}qkv_bias"] * read.take(f"{of}attn.qkv.bias_mask")
        params |= read.linear(f"{of}attn.proj", f"{to}proj")
        if read.has(f"{of}mlp.w1.weight"):  # DINOv3's gated ones
            parts = [read.linear(f"{of}mlp.{name}", "p") for name in ("w1", "w2")]
            params |= joined(parts, f"{to}fc1") | read.linear(f"{of}mlp.w3", f"{to}fc2")
        else:
            first, second = ("mlp.w12", "mlp.w3") if gated else ("mlp.fc1", "mlp.fc2")
            params |= read.linear(of + first, f"{to}fc1") | read.linear(of + second, f"{to}fc2")
        for scale in (1, 2):
            if read.has(f"{of}ls{scale}.gamma"):
                params[f"{to}scale{scale}"] = read.take(f"{of}ls{scale}.gamma")
    return params


def dino(weights: Mapping[str, np.ndarray], where: str, side: int | None) -> Found:
    """DINOv2 and DINOv3 by their own names, and timm's transformers."""
    read = Reader(weights, "patch_embed.proj.weight", where)
    params = read.patches("patch_embed.proj")
    params |= _timm_blocks(read, read.has("blocks.0.mlp.w12.weight")) | read.norm("norm", "norm")
    if read.has("cls_token"):
        params["class_token"] = read.take("cls_token")[0]
    for name in ("register_tokens", "reg_token", "storage_tokens"):
        if read.has(name):
            params["registers"] = read.take(name)[0]
    pooled, rotary = read.has("attn_pool.latent"), not read.has("pos_embed")
    size = side or SIDE
    if not rotary:
        size = _places_of_timm(read, params, side, pooled=pooled)
    if pooled:
        params |= _attention_pool(read)
    elif "class_token" not in params:
        raise InputError(f"{where} has neither a class token nor a pooling layer")
    read.check_all_used(("mask_token", "head", "fc_norm", "rope_embed", "local_cls_norm"))
    kind = "siglip" if pooled else "dinov3" if rotary else "dino"
    own = read.has("mask_token") or "registers" in params
    name = {"siglip": "SigLIP", "dinov3": "DINOv3", "dino": "DINOv2" if own else "timm"}[kind]
    return found(name, params, kind, size, "gelu_tanh" if pooled else "gelu")


def _places_of_timm(read: Reader, params: Arrays, side: int | None, *, pooled: bool) -> int:
    """Add the position table, resampled as its authors do; returns the side of the images."""
    places, patch = read.take("pos_embed")[0], patch_of(params)
    # timm's registers have no position, and neither does its class token beside them.
    square = round((len(places) - 1) ** 0.5) ** 2 == len(places) - 1
    classed = "class_token" in params and square
    trained = round((len(places) - classed) ** 0.5) * patch
    size = side or (trained if pooled else SIDE)
    grid = size // patch
    # DINOv2's own code without registers: by a scale, and without antialiasing.
    own = read.has("mask_token") and "registers" not in params
    scale = (grid + 0.1) * patch / trained if own and size != trained else None
    add_places(
        params, places, classed, lambda t: resampled(t, grid, antialias=not own, scale=scale)
    )
    return size


def _attention_pool(read: Reader) -> Arrays:
    """SigLIP's pooling by timm's names."""
    params = {"pool_latent": read.take("attn_pool.latent")[0]}
    for name in ("q", "kv", "proj"):
        params |= read.linear(f"attn_pool.{name}", f"pool_{name}")
    for name in ("fc1", "fc2"):
        params |= read.linear(f"attn_pool.mlp.{name}", f"pool_{name}")
    return params | read.norm("attn_pool.norm", "pool_norm")


def hugging_face(weights: Mapping[str, np.ndarray], where: str, side: int | None) -> Found:
    """DINOv2 by Hugging Face's names."""
    read = Reader(weights, "embeddings.patch_embeddings.projection.weight", where)
    params, size = read.patches("embeddings.patch_embeddings.projection"), side or SIDE
    params["class_token"] = read.take("embeddings.cls_token")[0]
    registers = read.has("embeddings.register_tokens")
    if registers:
        params["registers"] = read.take("embeddings.register_tokens")[0]
    places = read.take("embeddings.position_embeddings")[0]
    grid = size // patch_of(params)
    add_places(params, places, True, lambda table: resampled(table, grid, antialias=registers))
    gated = read.has("encoder.layer.0.mlp.weights_in.weight")
    for i in range(read.depth("encoder.layer.")):
        of, to = f"encoder.layer.{i}.", f"block{i}_"
        params |= read.norm(f"{of}norm1", f"{to}norm1") | read.norm(f"{of}norm2", f"{to}norm2")
        parts = [
            read.linear(f"{of}attention.attention.{n}", "p") for n in ("query", "key", "value")
        ]
        params |= joined(parts, f"{to}qkv")
        params |= read.linear(f"{of}attention.output.dense", f"{to}proj")
        first, second = ("weights_in", "weights_out") if gated else ("fc1", "fc2")
        params |= read.linear(f"{of}mlp.{first}", f"{to}fc1")
        params |= read.linear(f"{of}mlp.{second}", f"{to}fc2")
        for scale in (1, 2):
            params[f"{to}scale{scale}"] = read.take(f"{of}layer_scale{scale}.lambda1")
    params |= read.norm("layernorm", "norm")
    read.check_all_used(("embeddings.mask_token",))
    return found("DINOv2", params, "dino", size)


def hugging_face_dinov3(weights: Mapping[str, np.ndarray], where: str, side: int | None) -> Found:
    """DINOv3 by Hugging Face's names."""
    read = Reader(weights, "embeddings.patch_embeddings.weight", where)
    params, size = read.patches("embeddings.patch_embeddings"), side or SIDE
    params["class_token"] = read.take("embeddings.cls_token")[0]
    params["registers"] = read.take("embeddings.register_tokens")[0]
    # Newer files have "model." before their layers.
    layers = "model.layer." if read.depth("model.layer.") else "layer."
    gated = read.has(f"{layers}0.mlp.gate_proj.weight")
    for i in range(read.depth(layers)):
        of, to = f"{layers}{i}.", f"block{i}_"
        params |= read.norm(f"{of}norm1", f"{to}norm1") | read.norm(f"{of}norm2", f"{to}norm2")
        parts = [read.linear(f"{of}attention.{n}_proj", "p") for n in "qkv"]
        params |= joined(parts, f"{to}qkv")
        params |= read.linear(f"{of}attention.o_proj", f"{to}proj")
        first = [
            read.linear(f"{of}mlp.{n}_proj", "p") for n in (["gate", "up"] if gated else ["up"])
        ]
        params |= joined(first, f"{to}fc1") | read.linear(f"{of}mlp.down_proj", f"{to}fc2")
        for scale in (1, 2):
            params[f"{to}scale{scale}"] = read.take(f"{of}layer_scale{scale}.lambda1")
    params |= read.norm("norm", "norm")
    read.check_all_used(("embeddings.mask_token", "rope_embeddings"))
    return found("DINOv3", params, "dinov3", size)


def clip(weights: Mapping[str, np.ndarray], where: str, activation: Activation) -> Found:
    """CLIP's image tower by OpenAI's and OpenCLIP's names."""
    read = Reader(weights, "visual.conv1.weight", where)
    params, width = read.patches("visual.conv1"), read.take("visual.class_embedding").shape[-1]
    params["class_token"] = read.take("visual.class_embedding").reshape(1, width)
    places = read.take("visual.positional_embedding")
    grid = round((len(places) - 1) ** 0.5)
    add_places(params, places, True, lambda table: table)
    params |= read.norm("visual.ln_pre", "first_norm") | read.norm("visual.ln_post", "norm")
    blocks = "visual.transformer.resblocks."
    for i in range(read.depth(blocks)):
        of, to = f"{blocks}{i}.", f"block{i}_"
        params |= read.norm(f"{of}ln_1", f"{to}norm1") | read.norm(f"{of}ln_2", f"{to}norm2")
        params[f"{to}qkv_kernel"] = read.take(f"{of}attn.in_proj_weight").T
        params[f"{to}qkv_bias"] = read.take(f"{of}attn.in_proj_bias")
        params |= read.linear(f"{of}attn.out_proj", f"{to}proj")
        params |= read.linear(f"{of}mlp.c_fc", f"{to}fc1")
        params |= read.linear(f"{of}mlp.c_proj", f"{to}fc2")
    params["output"] = read.take("visual.proj")
    visual = {n: w for n, w in weights.items() if n.startswith(f"{read.prefix}visual.")}
    read.weights = visual
    read.check_all_used(())
    made = found("CLIP", params, "clip", grid * patch_of(params), activation)
    return made._replace(name=f"{made.name}, {activation}")


def find(
    weights: Mapping[str, np.ndarray],
    where: str,
    activation: Activation | None = None,
    side: int | None = None,
    heads: int | None = None,
) -> Found | None:
    """The transformer that a file's names belong to; None for other files.

    Args:
        weights: the file's arrays.
        where: the file, for messages.
        activation: CLIP's, which files do not record.
        side: of the images; default 224, or what the weights were trained on.
        heads: of its attention, which files do not record; default those of the known one this
            wide.

    Raises:
        InputError: the file lacks an array, has one that does not belong, or one of another shape;
            the number of heads does not fit or is not known.
    """
    try:
        made = _by_name(weights, where, activation, side)
    except InputError:
        raise
    except Exception as error:  # NumPy's, of arrays whose shapes do not go together
        raise InputError(
            f"{where} has the names of a vision transformer, but not its arrays "
            f"({first_line(error)}); give the file of a whole one"
        ) from error
    return None if made is None else fitting(with_heads(made, heads, where), where)


def _by_name(
    weights: Mapping[str, np.ndarray], where: str, activation: Activation | None, side: int | None
) -> Found | None:
    ends = [name for name in weights if name.endswith("weight")]
    if any(name.endswith("visual.conv1.weight") for name in ends):
        if activation is None:
            raise InputError(
                f"{where} is a CLIP model, whose file does not record its activation: give "
                "clip_openai:FILE (QuickGELU) or openclip:FILE (GELU)"
            )
        return clip(weights, where, activation)
    for anchor, reader in (
        ("embeddings.patch_embeddings.projection.weight", hugging_face),
        ("embeddings.patch_embeddings.weight", hugging_face_dinov3),
        ("patch_embed.proj.weight", dino),
    ):
        if any(name.endswith(anchor) for name in ends):
            return reader(weights, where, side)
    return None
