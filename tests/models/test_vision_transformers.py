"""Vision transformers against timm's, transformers' and plain PyTorch's, with random weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust.core.errors import InputError
from jaxclust.models.encoders import vit_names, vit_parameters
from jaxclust.models.encoders.position_tables import resampled
from jaxclust.models.encoders.vision_transformer import VisionTransformer
from jaxclust.models.encoders.weight_files import read

RNG = np.random.default_rng(0)


def torch_of(extra=None):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra bench)")
    if extra is None:
        return torch
    return torch, pytest.importorskip(extra, reason=f"{extra} is not installed")


def shaken(torch, network):
    """The network with random weights, none of them at a start that hides mistakes."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            spread = 0.5 if "ls" in name or "scale" in name or "norm" in name else 0.06
            parameter.add_(torch.randn_like(parameter) * spread)
    return network.eval()


def arrays(network):
    return {name: value.detach().numpy() for name, value in network.state_dict().items()}


def saved(network, folder):
    """A transformers model's arrays by the names that its published files have."""
    network.save_pretrained(folder)
    return read(folder / "model.safetensors")


def vectors(found, images):
    """What the transformer here makes of images [b, side, side, 3]."""
    network = VisionTransformer(shape=found.shape)
    shapes = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), images)
    assert {n: v.shape for n, v in shapes["params"].items()} == {
        n: v.shape for n, v in found.params.items()
    }
    return np.asarray(network.apply({"params": found.params}, images, train=False))


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def pictures(side):
    return RNG.normal(size=(2, side, side, 3)).astype(np.float32)


def channels_first(torch, images):
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


TIMM = {
    "plain": {"init_values": 1.0},
    "registers": {"init_values": 1.0, "reg_tokens": 4, "no_embed_class": True},
    "no layer scale": {},
}


@pytest.mark.parametrize("side", [56, 42])
@pytest.mark.parametrize("kind", TIMM)
def test_timms(kind, side):
    torch, timm = torch_of("timm")
    build = {"patch_size": 14, "embed_dim": 128, "depth": 2, "num_heads": 2, "num_classes": 0}
    network = shaken(
        torch,
        timm.models.VisionTransformer(img_size=56, **build, **TIMM[kind], dynamic_img_size=True),
    )
    found = vit_names.find(arrays(network), "w", side=side)
    assert (found.shape.heads, found.shape.depth, found.shape.grid) == (2, 2, side // 14)
    images = pictures(side)
    with torch.no_grad():
        theirs = network(channels_first(torch, images)).numpy()
    close(vectors(found, images), theirs)


def test_heads_of_another_size():
    """No file tells how many there are: they are said by hand."""
    torch, timm = torch_of("timm")
    network = shaken(
        torch,
        timm.models.VisionTransformer(
            img_size=28, patch_size=14, embed_dim=96, depth=2, num_heads=3, num_classes=0
        ),
    )
    weights, images = arrays(network), pictures(28)
    with pytest.raises(InputError, match=r"of 96 values.* give heads=N:FILE"):
        vit_names.find(weights, "w", side=28)
    with pytest.raises(InputError, match="w has 96 values, which 5 heads cannot share"):
        vit_names.find(weights, "w", side=28, heads=5)
    found = vit_names.find(weights, "w", side=28, heads=3)
    with torch.no_grad():
        close(vectors(found, images), network(channels_first(torch, images)).numpy())
    other = vit_names.find(weights, "w", side=28, heads=6)
    assert np.abs(vectors(other, images) - vectors(found, images)).max() > 1e-3


def test_timms_gated():
    torch, timm = torch_of("timm")
    from timm.layers import SwiGLUPacked

    network = shaken(
        torch,
        timm.models.VisionTransformer(
            img_size=28, patch_size=14, embed_dim=64, depth=2, num_heads=1, num_classes=0,
            init_values=1.0, mlp_layer=SwiGLUPacked, act_layer=torch.nn.SiLU, mlp_ratio=4,
        ),
    )  # fmt: skip
    found, images = vit_names.find(arrays(network), "w", side=28), pictures(28)
    assert found.shape.activation == "silu_gated"
    with torch.no_grad():
        close(vectors(found, images), network(channels_first(torch, images)).numpy())


def test_timms_siglip():
    torch, timm = torch_of("timm")
    network = shaken(
        torch,
        timm.models.VisionTransformer(
            img_size=32, patch_size=16, embed_dim=128, depth=2, num_heads=2, num_classes=0,
            class_token=False, global_pool="map", act_layer="gelu_tanh",
        ),
    )  # fmt: skip
    found, images = vit_names.find(arrays(network), "w"), pictures(32)
    assert (found.kind, found.side, found.shape.pooling) == ("siglip", 32, "attention")
    with torch.no_grad():
        close(vectors(found, images), network(channels_first(torch, images)).numpy())


@pytest.mark.parametrize("side", [56, 42])
@pytest.mark.parametrize(("registers", "gated"), [(0, False), (4, False), (0, True)])
def test_hugging_faces_dinov2(registers, gated, side, tmp_path):
    torch, transformers = torch_of("transformers")
    common = {
        "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56,
        "patch_size": 14, "use_swiglu_ffn": gated,
    }  # fmt: skip
    if registers:
        config = transformers.Dinov2WithRegistersConfig(num_register_tokens=registers, **common)
        network = transformers.Dinov2WithRegistersModel(config)
    else:
        network = transformers.Dinov2Model(transformers.Dinov2Config(**common))
    network = shaken(torch, network)
    found, images = vit_names.find(saved(network, tmp_path), "w", side=side), pictures(side)
    with torch.no_grad():
        theirs = network(channels_first(torch, images)).pooler_output.numpy()
    close(vectors(found, images), theirs)


@pytest.mark.parametrize("gated", [False, True])
def test_hugging_faces_dinov3(gated, tmp_path):
    torch, transformers = torch_of("transformers")
    config = transformers.DINOv3ViTConfig(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=48, patch_size=16,
        intermediate_size=256, num_register_tokens=4, use_gated_mlp=gated,
        hidden_act="silu" if gated else "gelu",
    )  # fmt: skip
    network = shaken(torch, transformers.DINOv3ViTModel(config))
    found, images = vit_names.find(saved(network, tmp_path), "w", side=48), pictures(48)
    assert (found.shape.positions, found.shape.registers) == ("rotary", 4)
    with torch.no_grad():
        theirs = network(channels_first(torch, images)).pooler_output.numpy()
    close(vectors(found, images), theirs)


@pytest.mark.parametrize(("registers", "gated"), [(0, False), (4, False), (4, True)])
def test_dinov2_by_its_own_names(registers, gated):
    """The second reading of its repository's files is timm's, which converts them."""
    torch, timm = torch_of("timm")
    from timm.layers import SwiGLUPacked
    from timm.models.vision_transformer import checkpoint_filter_fn

    parts = {"mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU} if gated else {}
    parts |= {"reg_tokens": registers, "no_embed_class": True} if registers else {}
    network = timm.models.VisionTransformer(
        img_size=28, patch_size=14, embed_dim=64, depth=2, num_heads=1, num_classes=0,
        init_values=1.0, mlp_ratio=4, **parts,
    )  # fmt: skip
    theirs = {"mask_token": torch.zeros(1, 64)}
    for name, value in shaken(torch, network).state_dict().items():
        name = name.replace("reg_token", "register_tokens")
        if gated:
            name = name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3")
        theirs[name] = value.clone()
    if registers:  # there the class token has a place, too
        theirs["pos_embed"] = torch.cat([torch.randn(1, 1, 64), theirs["pos_embed"]], dim=1)
    network.load_state_dict(checkpoint_filter_fn(dict(theirs), network))
    weights = {name: value.numpy() for name, value in theirs.items()}
    found, images = vit_names.find(weights, "w", side=28), pictures(28)
    assert (found.kind, found.shape.registers) == ("dino", registers)
    with torch.no_grad():
        close(vectors(found, images), network(channels_first(torch, images)).numpy())


@pytest.mark.parametrize("gated", [False, True])
def test_dinov3_by_its_own_names(gated):
    """As for DINOv2; a mask takes the keys' bias away."""
    torch, _ = torch_of("timm")
    from timm.models.eva import Eva, checkpoint_filter_fn

    network = Eva(
        img_size=48, patch_size=16, embed_dim=128, depth=2, num_heads=2, num_classes=0,
        global_pool="token", qkv_bias=True, init_values=1.0, rope_type="dinov3",
        rope_temperature=100, rope_rotate_half=True, use_rot_pos_emb=True, use_abs_pos_emb=False,
        swiglu_mlp=gated, swiglu_align_to=8, num_reg_tokens=4, use_fc_norm=False,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-5),
    )  # fmt: skip
    own = shaken(torch, network).state_dict()
    theirs = {"mask_token": torch.zeros(1, 128), "rope_embed.periods": torch.ones(16)}
    for name, value in own.items():
        name = name.replace("reg_token", "storage_tokens")
        for here, there in (("gamma_1", "ls1.gamma"), ("gamma_2", "ls2.gamma")):
            name = name.replace(here, there)
        if gated:
            for here, there in (("fc1_g", "w1"), ("fc1_x", "w2"), ("fc2", "w3")):
                name = name.replace(f"mlp.{here}", f"mlp.{there}")
        if not name.endswith(("q_bias", "k_bias", "v_bias")):
            theirs[name] = value.clone()
    for i in range(2):
        of = f"blocks.{i}.attn"
        bias = [own[f"{of}.q_bias"], torch.randn(128), own[f"{of}.v_bias"]]
        theirs[f"{of}.qkv.bias"] = torch.cat(bias)
        theirs[f"{of}.qkv.bias_mask"] = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(128)
    network.load_state_dict(checkpoint_filter_fn(dict(theirs), network), strict=False)
    weights = {name: value.numpy() for name, value in theirs.items()}
    found, images = vit_names.find(weights, "w", side=48), pictures(48)
    assert (found.shape.positions, found.shape.registers) == ("rotary", 4)
    with torch.no_grad():
        close(vectors(found, images), network(channels_first(torch, images)).numpy())


def clip_network(torch, activation):
    """OpenCLIP's image tower in plain PyTorch, by its names."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.attn = nn.MultiheadAttention(width, width // 64, batch_first=True)
            self.mlp = nn.ModuleDict(
                {"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)}
            )

        def forward(self, x):
            y = self.ln_1(x)
            x = x + self.attn(y, y, y, need_weights=False)[0]
            return x + self.mlp["c_proj"](activation(self.mlp["c_fc"](self.ln_2(x))))

    class Tower(nn.Module):
        def __init__(self, width, grid, patch, output):
            super().__init__()
            self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
            self.class_embedding = nn.Parameter(torch.zeros(width))
            self.positional_embedding = nn.Parameter(torch.zeros(grid**2 + 1, width))
            self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
            self.transformer = nn.ModuleDict(
                {"resblocks": nn.ModuleList([Block(width), Block(width)])}
            )
            self.proj = nn.Parameter(torch.zeros(width, output))

        def forward(self, x):
            x = self.conv1(x).flatten(2).transpose(1, 2)
            first = self.class_embedding.expand(len(x), 1, -1)
            x = self.ln_pre(torch.cat([first, x], dim=1) + self.positional_embedding)
            for block in self.transformer["resblocks"]:
                x = block(x)
            return self.ln_post(x[:, 0]) @ self.proj

    return shaken(torch, nn.ModuleDict({"visual": Tower(128, 3, 16, 40)}))


@pytest.mark.parametrize("name", ["quick_gelu", "gelu"])
def test_clips_image_tower(name):
    torch = torch_of()
    quick = name == "quick_gelu"
    activation = (lambda x: x * torch.sigmoid(1.702 * x)) if quick else torch.nn.functional.gelu
    network = clip_network(torch, activation)
    weights = arrays(network) | {"logit_scale": np.ones(()), "token_embedding.weight": np.ones(2)}
    with pytest.raises(InputError, match="clip_openai:FILE"):
        vit_names.find(weights, "w")
    found, images = vit_names.find(weights, "w", name), pictures(48)
    assert (found.side, found.shape.output) == (48, 40)
    with torch.no_grad():
        close(vectors(found, images), network["visual"](channels_first(torch, images)).numpy())


@pytest.mark.parametrize(("m", "n"), [(37, 16), (4, 3), (4, 9), (5, 5)])
def test_tables_of_places_are_resampled_as_pytorch_does(m, n):
    torch = torch_of()
    table = RNG.normal(size=(m * m, 6)).astype(np.float32)
    square = torch.from_numpy(table.reshape(1, m, m, 6).transpose(0, 3, 1, 2).copy())

    def theirs(**how):
        found = torch.nn.functional.interpolate(square, mode="bicubic", **how)
        return found.numpy()[0].transpose(1, 2, 0).reshape(n * n, 6)

    close(resampled(table, n, antialias=True), theirs(size=(n, n), antialias=True))
    close(resampled(table, n, antialias=False), theirs(size=(n, n), antialias=False))
    # DINOv2's own: by a scale that is a tenth of a patch larger.
    scale = (n + 0.1) / m
    close(resampled(table, n, antialias=False, scale=scale), theirs(scale_factor=(scale, scale)))


SMALL = {
    "cls_token": (1, 1, 64), "pos_embed": (1, 5, 64), "mask_token": (1, 64),
    "patch_embed.proj.weight": (64, 3, 14, 14), "patch_embed.proj.bias": (64,),
    "norm.weight": (64,), "norm.bias": (64,),
    "blocks.0.norm1.weight": (64,), "blocks.0.norm1.bias": (64,),
    "blocks.0.norm2.weight": (64,), "blocks.0.norm2.bias": (64,),
    "blocks.0.attn.qkv.weight": (192, 64), "blocks.0.attn.qkv.bias": (192,),
    "blocks.0.attn.proj.weight": (64, 64), "blocks.0.attn.proj.bias": (64,),
    "blocks.0.ls1.gamma": (64,), "blocks.0.ls2.gamma": (64,),
    "blocks.0.mlp.fc1.weight": (256, 64), "blocks.0.mlp.fc1.bias": (256,),
    "blocks.0.mlp.fc2.weight": (64, 256), "blocks.0.mlp.fc2.bias": (64,),
}  # fmt: skip


def small_dino(**more):
    """DINOv2's arrays by its own names, of one block."""
    shapes = SMALL | more
    return {n: RNG.normal(size=s).astype(np.float32) for n, s in shapes.items() if s is not None}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"blocks.0.norm1.weight": (65,)}, r"block0 norm1 scale is \(65,\), but \(64,\)"),
        ({"blocks.0.mlp.fc1.weight": (256, 60)}, "block0 fc1 kernel"),
        ({"patch_embed.proj.weight": (64, 1, 14, 14)}, "w "),
        ({"patch_embed.proj.weight": (64, 3, 13, 13)}, "patches of 13 pixels"),
        ({"patch_embed.proj.weight": (64, 3)}, "not its arrays"),
        ({"pos_embed": (1, 7, 64)}, "not its arrays"),
        ({"pos_embed": ()}, "not its arrays"),
        ({"cls_token": (64,)}, "w "),
        ({name: None for name in SMALL if name.startswith("blocks")}, "not its arrays"),
    ],
)
def test_arrays_of_other_shapes_are_refused(changed, said):
    with pytest.raises(InputError, match=said):
        vit_names.find(small_dino(**changed), "w", side=28)


def test_keys_of_a_masked_bias_have_none():
    """DINOv3's program multiplies the bias with the mask in its file."""
    weights = small_dino()
    mask = np.repeat(np.float32([1, 0, 1]), 64)
    masked = vit_names.find({**weights, "blocks.0.attn.qkv.bias_mask": mask}, "w", side=28)
    bias = weights["blocks.0.attn.qkv.bias"]
    expected = np.concatenate([bias[:64], np.zeros(64), bias[128:]])
    np.testing.assert_array_equal(masked.params["block0_qkv_bias"], expected)


def test_what_fits_no_transformer_is_refused_by_name():
    assert vit_names.find({"fc.weight": np.ones(3)}, "w") is None
    with pytest.raises(InputError, match=r"w has no blocks\.0\.attn\.qkv\.weight"):
        vit_names.find(small_dino(**{"blocks.0.attn.qkv.weight": None}), "w")
    with pytest.raises(InputError, match=r"has an array blocks\.0\.attn\.q_norm\.weight, for"):
        vit_names.find(small_dino(**{"blocks.0.attn.q_norm.weight": (32,)}), "w")
    assert vit_parameters.heads_of("dino", 100) is None
    # timm's SO400M and OpenCLIP's ViT-H have wider heads than the rest.
    assert vit_parameters.heads_of("siglip", 1152) == vit_parameters.heads_of("clip", 1280) == 16
    assert vit_parameters.heads_of("dino", 384) == 6
    found = vit_names.find(small_dino(), "w", side=28)
    assert found.name == "DINOv2 ViT-64/14"
    assert jnp.isfinite(vectors(found, pictures(28))).all()
