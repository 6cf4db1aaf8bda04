"""PyTorch's files, read without PyTorch."""

import base64
import io
import pickle
import random
import tracemalloc
import zipfile
import zlib
from types import MappingProxyType

import ml_dtypes
import numpy as np
import pytest

from jaxclust.core.errors import InputError
from jaxclust.models.encoders import torch_files, weight_files

# What PyTorch 2.14 wrote of the checkpoint below, in its zip format and in the older one:
#   base = torch.arange(12.0).reshape(3, 4)
#   weights = OrderedDict(whole=base, turned=base.t(), part=base[1:, 1:3],
#       half=tensor([1.5, -2.0], dtype=float16), brain=tensor([[0.5, 3.0]], dtype=bfloat16),
#       count=tensor(7), flags=tensor([True, False]), none=zeros(0, 3),
#       weight=Parameter(tensor([1.0, 2.0])))
#   {"state_dict": weights, "epoch": 3, "name": "x", "history": [torch.ones(2)]}
ZIP = (
    b"c-o~_TW{M`96z}<&BE5p7<4Nz1{;t<mpWH>YuBV^n1Kgty>5iUh}^`DE!?<&=cL_`CRIW$n|MJ8A)XK~Jn;c|Llf"
    b"TsME3wZAc2H<LVN?xCCPl;o7!4EwUYRE`Tx&3zvCG#5=AH;M_aA|bQ~F8)v{O2v6_L6)bfXps`R0G;aUsd1(Yl&2"
    b"%w1#Y*uP^6+@_6bsfj7V%u#r6W6?&>6x|5<d+15M|6lJ%RL0JYPpUH(JFR{Osdktw$n^hJaeICJGBZn8%@`%tYi|"
    b"<lT4O-nS$#XbrWJ7l29Gjz}NYg3Fs|{$TJee%Mo&~F1O%_b`(QmRzq4ui*CSUT2u>dz|s2_HE|3>pAP-y7<m}Cyo"
    b"OnW0gEVEF{{^#TMRo$u~99u0mrovrFfiUPhfaLhbPOVb!ge}FboBeCug-DEv$t%;1pLK=E$coJgvhs3~3q8BAn*P"
    b"c12gnSKWf1Wd)_-4518Tc#fJ0ufy|NXdTXSx^oy_(BVba&IQk~8}O3Ar?3{K3ti46<IKPa=X{xRhN#U~h+ATFl=G"
    b"g)kkVm{@mAed1A`>+UUeJwE@zr?W+6j3Lm0Azb7X|`<S^uQC@`Ky$EY_!7X7)d)8!dwJUO_)y<KeAJ3;H6<b0PfO"
    b"zBW$?Q6IV6H1-NGi)BF2^L{cC>GI)dzH*Rsp~SwzlK58;dM6YtEOGIFkIPT{gHV!mP~AV33x*gDZrcDpw>2cl^T4"
    b"D3%rftnhrDf*oWCqK-b}Vi<NIKyHyM3v<Np(xZwulyA3zl>b7jUzVE<0x1cNt%J421oNo)hM+M*Kg10byphLxIrD"
    b"n9=`10gmzkW)VKOHkWZtWo?b+>kE(e;)LTv;)_CfTj3G8)+7yI*Ol`u)GZe@u<iv9szhk{_wIw{pdB?0RF#Y+zN%"
    b"?n}6R6>`)-aTWdv6N&Jy1_n{FYhd9HHeH%asxom9-OlCM7&|8Quzu;!Q*>FycJ<JQri4@-lT_v6Aq;TVwIcafB7b"
    b"D8k?{=~56Jj~3^Yx$oQyMMNYm8m?YoOp5{=3|oSqP!rd4HNi&Ik01Ik(0-28&B>*yYwC6P0uDwBt4|2!&|N>u+`^"
    b"WnV%=w}bB-`i$poA2S@E)|XM;bBtrkW-cM1A7QD<sZ)eSQghm+E!T+mGi1Hb*Sp+=l8LG3fr!q_S&UYtbAKc9iV^"
    b"mVfx4Q*NRmCv)S0@-unG$qO0ExP5Gb(vI(mE)7SMId*|0_lz9}Otn{Yo*(5<fGU$s|#jdGJYM(}=@l0X7kdx(Xz9"
    b"8lDvMfuIluKvx+3~b|AunYMSy@VFB<k|NFSWTO@sVUML)2{7r~lv?*y23+9vMXY50D`N`CA0-bW{aN{D;7>Kr$Oe"
    b"yPP~h9)FMz3Oqmic)ABj5bjUcJ^_BS2L-Y}i1nwah^21CG!A0@2`FOcg4oQK+4Ciri2Wsq%?7dl>=Ci_twv0`4tD"
    b"!=5?UR^=7YNav=FhScmP`nV*NW^#C{dT%0aAuul5VrlSfc68G>N{7CJ3}Klg#R-`q1=EH>JSg2?$TjqBW-5q=*}b"
    b"dIJNJEgum#y|77w4NBp^s(ppv;PAsEFb3"
)
OLDER = (
    b"c-noG*>coI6ow^@JO;%O1K9{9IIK1#&WvVk&k%xbaLgh$%Pb;^qsW@ZQc98LmwF&jMb+Hk0MEb$mpq0aCAWD5s<_"
    b"~^S`64FqtcPOThjlX{`<80+H)g%^J4M!*k7-1?4RswSO2fj^)ZxjXH-#?Zkq7KPa^j|OS3SEq0$S^E_xD$oJY)Ma"
    b"VPX*Xipu32KmD-bF=Uf%TRd?ecTzM!7NBpjv-5PD%1;Oj;f_Qy3k1CH4IyNulJ5AL^AGi=5|7#L-mOrF`pAUGp?r"
    b"{ma@(QJu#q7*r-UrgCL0*be|`wA56ME9!8nrrfjtrMje;4I7?FZzG+}+eB2q%2}$a$F;wLz#$uFsd|3_}7<P8kJM"
    b"Bih-DsILv(ap|YS@t{?{|CHX^mXtFqSOEs#y9uKCyI5UB}3?K%}&bW4Db@ovLu7m&UAv(SW!?H7M2H6G*+iLQl6U"
    b">)2<hLiRJM_c_NGHona5>U!kkS07W`U#NY(WRc&NwvGcbyMt2g8;);n9Lm)KFS>^@saE)Kk%k5~e76N42slgtjQ~"
    b"ePy4n*QwbUm#CdH3)oUkF6WHt4|7!#Y+&*e7Prw4?STM5$*6Q>Ho_ky5`Df~b)p(#vC%8wj18}*#xCq1era}(tX)"
    b"zpB{cu$zAO*Pvy^(hlgBB(@|BErOkRGsFSvC+y^??v8PhW6&%lO!6bp5Ch3thMk{k@uOxnV*F-XQlcq$DED%-1az"
    b"$8P1h2;*?o8TR2Zj3MnlJB}J6PFH~vdz@k*Uz;V&WrM$!*uy8HlxV%m6Q^k0HGtN>2)^^Bt-Ncn5`Kv|p*F^HyCG"
    b"G~tk`4Q5-dX+^H*MVN<wmh?;s>~GRpi8oggcH(&41wJ`z#2>PJ4*EEBJLAe4}PI@mqoay}+*s{2vnUa{Ot-^TaP="
    b"Mf@U4R#Yup5Us3!D`h38mu;n?vZbk(nO8cc9c)rKA&%kVt`&E6&{EDS8-w=j+}w!r;nAO^%N(5)eTtV98x;RhDD#"
    b"RkN-;)Jn^(3F-hI2d-=BR8Sdek|"
)
# Base 85 has no backslash and no double quote.
FILES = {
    kind: zlib.decompress(base64.b85decode(text)) for kind, text in (("zip", ZIP), ("older", OLDER))
}
BASE = np.arange(12, dtype=np.float32).reshape(3, 4)
WEIGHTS = {
    "whole": BASE,
    "turned": BASE.T,
    "part": BASE[1:, 1:3],
    "half": np.array([1.5, -2], np.float16),
    "brain": np.array([[0.5, 3]], np.float32),
    "count": np.array(7),
    "flags": np.array([True, False]),
    "none": np.zeros((0, 3), np.float32),
    "weight": np.array([1, 2], np.float32),
}


@pytest.fixture(params=FILES)
def content(request):
    return FILES[request.param]


def read(content, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    return weight_files.read(path)


def test_both_formats_hold_what_pytorch_wrote(content, tmp_path):
    found = read(content, tmp_path)
    assert found.keys() == WEIGHTS.keys()
    for name, expected in WEIGHTS.items():
        assert found[name].shape == expected.shape, name
        np.testing.assert_array_equal(found[name].astype(expected.dtype), expected)
    assert found["half"].dtype == np.float16
    assert str(found["brain"].dtype) == "bfloat16"


@pytest.mark.parametrize("older", [False, True])
def test_files_equal_pytorchs_own_reading(older, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra bench)")
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5), torch.nn.LSTM(4, 3)
    )
    path = tmp_path / "weights.pt"
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=not older)
    found, expected = torch_files.read(path), torch.load(path, weights_only=True)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


class Calls:
    """Pickled, a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def zipped(content, compression=zipfile.ZIP_STORED, others=MappingProxyType({})):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", content)
        for name, value in others.items():
            archive.writestr(f"archive/{name}", value)
    return file.getvalue()


def older(content):
    head = [pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, {})]
    return b"".join([*head, content, pickle.dumps([], 2)])


@pytest.mark.parametrize("wrap", [zipped, older])
@pytest.mark.parametrize(
    ("function", "arguments"),
    [(eval, ("open('ran', 'w')",)), (__import__, ("os",)), (getattr, (dict, "__init__"))],
)
def test_nothing_in_a_file_is_run(function, arguments, wrap, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = pickle.dumps({"weight": Calls(function, *arguments)}, 2)
    with pytest.raises(InputError, match=f"it asks for .*{function.__name__}, which is no part"):
        read(wrap(evil), tmp_path)
    assert not (tmp_path / "ran").exists()


NAMES = [
    b"ctorch\nBFloat16Storage\n",
    b"ctorch\nFloatStorage\n",
    b"ctorch\nSize\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_parameter\n",
    b"ccollections\nOrderedDict\n",
    b"}",
]


@pytest.mark.parametrize("wrap", [zipped, older])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "state", [(3, "<", None, None, None, 1, 1, 0), (None, {"__defaults__": ()})]
)
def test_what_a_pickle_names_cannot_be_changed(name, state, wrap, tmp_path):
    """NumPy's dtype of bfloat16, which JAX shares, took a state: it had one byte from then on."""
    evil = b"\x80\x02}" + pickled("weight") + name + pickled(state) + b"bs."
    with pytest.raises(InputError, match="more than tensors"):
        read(wrap(evil), tmp_path)
    assert np.dtype(ml_dtypes.bfloat16).itemsize == 2
    assert np.ones(3, ml_dtypes.bfloat16).nbytes == 6


def test_a_dictionary_s_state_is_passed_over(tmp_path):
    """torch.save gives dictionaries of weights one, the versions of their layers."""
    made = b"ccollections\nOrderedDict\n)R" + pickled({"_metadata": {"": 1}, "items": 3}) + b"b"
    found = read(zipped(b"\x80\x02}" + pickled("weight") + made + b"s."), tmp_path)
    assert found == {}


@pytest.mark.parametrize("wrap", [zipped, older])
@pytest.mark.parametrize(
    "stream",
    [
        b"}N" + b"\x85" * 200_000 + b"Ns",
        b"}(N" + b"\x85" * 200_000 + b"Nu",
        b"(N" + b"\x85" * 200_000 + b"Nd",
        b"ccollections\nOrderedDict\n]N" + b"\x85" * 200_000 + b"N\x86a\x85R",
    ],
    ids=["item", "items", "dictionary", "ordered"],
)
def test_keys_that_would_exhaust_the_stack_are_refused(stream, wrap, tmp_path):
    with pytest.raises(InputError, match="neither names nor numbers"):
        read(wrap(b"\x80\x02" + stream + b"."), tmp_path)


@pytest.mark.parametrize("stream", [b"\x8f", b"(\x91", b"(cbuiltins\nint\no", b"\x82\x01"])
def test_instructions_that_no_tensor_needs_are_refused(stream, tmp_path):
    with pytest.raises(InputError):
        read(zipped(b"\x80\x04" + stream + b"."), tmp_path)


def tensor_file(shape, strides, offset=0, count=4, size=16):
    """A zip file of one tensor, whatever it says of itself."""
    stream = b"".join(
        [
            b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage",
            b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu",
            *(pickled(value) for value in (count,)),
            b"tQ",
            *(pickled(value) for value in (offset, shape, strides, False, None)),
            b"tRs.",
        ]
    )
    return zipped(stream, others={"data/0": bytes(size)})


def pickled(value):
    """A value's instructions, without a pickle's first and last."""
    return pickle.dumps(value, 2)[2:-1]


def test_a_tensor_file_is_read(tmp_path):
    found = read(tensor_file((2, 2), (2, 1)), tmp_path)
    np.testing.assert_array_equal(found["a"], np.zeros((2, 2)))


@pytest.mark.parametrize(
    "described",
    [
        {"shape": (5,), "strides": (1,)},
        {"shape": (4,), "strides": (1,), "offset": 1},
        {"shape": (4,), "strides": (1,), "offset": -1},
        {"shape": (2, 2), "strides": (-1, 1)},
        {"shape": (2, 2), "strides": (1,)},
        # A gigabyte of repeated values in a file of a few bytes.
        {"shape": (2**28,), "strides": (0,)},
        {"shape": (4,), "strides": (1,), "size": 12},
        {"shape": (2**40,), "strides": (1,), "count": 2**40},
    ],
)
def test_tensors_that_are_not_there_are_refused(described, tmp_path):
    with pytest.raises(InputError, match=r"cannot be read as \.pth"):
        read(tensor_file(**described), tmp_path)


def peak(content, tmp_path):
    """Bytes of memory that reading a file takes at most, whether or not it is refused."""
    tracemalloc.start()
    try:
        read(content, tmp_path)
    except InputError:
        pass
    finally:
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return size


def named(count, value):
    """Instructions for a dictionary with `count` names for one value, which is made once."""
    names = b"".join(pickled(f"n{i}") + b"h\x01" for i in range(count))
    return value + b"q\x010}(" + names + b"u"


def nested(levels, count):
    """A pickle of dictionaries that hold one inner dictionary under many names."""
    inner = b"}"
    for _ in range(levels):
        inner = named(count, inner)
    return b"\x80\x02" + inner + b"."


def with_storage(stream, content):
    """A zip file of a pickle and the one storage it names."""
    return zipped(stream, others={"data/0": content})


def tensor_of(size):
    """Instructions for a tensor of `size` floats."""
    one = tensor_file((size,), (1,), count=size, size=0)
    with zipfile.ZipFile(io.BytesIO(one)) as archive:
        stream = archive.read("archive/data.pkl")
    return stream[stream.index(b"ctorch._utils") : -2]


def many_names(count, size, outer=""):
    """A file of one tensor of `size` floats under many names, in a dictionary of a name."""
    found = b"}" + pickled(outer) + named(count, tensor_of(size)) + b"s"
    return with_storage(b"\x80\x02" + found + b".", bytes(4 * size))


def many_sizes(count):
    """A pickle of one shape of 64 numbers under many names."""
    shape = pickled(((1000,) * 64,))
    made = b"ctorch\nSize\nq\x070" + shape + b"q\x080"
    return b"\x80\x02" + made + b"]" + b"h\x07h\x08Ra" * count + b"."


@pytest.mark.parametrize(
    ("content", "most"),
    [
        # Python's unpickler would make room for a hundred million places.
        (b"\x80\x02}r" + (10**8).to_bytes(4, "little") + b".", 10**6),
        (many_names(2000, 20_000), 10**7),
        (many_names(2000, 1, "a" * 10**5), 10**7),
        # A shape that is made once and copied wherever it is named.
        (zipped(many_sizes(100_000)), 3 * 10**7),
    ],
    ids=["memo", "names", "long", "shapes"],
)
def test_a_small_file_takes_little_memory(content, most, tmp_path):
    assert len(content) < 10**6
    assert peak(content, tmp_path) < most


def test_dictionaries_that_would_multiply_are_refused(tmp_path):
    with pytest.raises(InputError, match="repeats its contents"):
        read(zipped(nested(5, 20)), tmp_path)


def test_a_bomb_of_arrays_is_refused(tmp_path):
    path = tmp_path / "weights.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weight.npy", bytes(100))
        archive.infolist()[0].file_size = 2**31 - 1  # as written into the list of contents
    with pytest.raises(InputError, match="claims to unpack"):
        weight_files.read(path)


def named_tensors(names, tmp_path):
    """The names under which a file's tensors are found."""
    stream = b"".join(pickled(name) + tensor_of(3) for name in names)
    return list(read(with_storage(b"\x80\x02}(" + stream + b"u.", bytes(12)), tmp_path))


def test_what_stands_before_all_of_a_networks_names_is_left_out(tmp_path):
    assert named_tensors(["model.a", "model.b", "lr"], tmp_path) == ["a", "b"]
    # Hugging Face's newer DINOv3 has its layers alone behind "model.".
    names = ["embeddings.cls_token", "model.layer.0.norm1.weight", "norm.weight"]
    assert named_tensors(names, tmp_path) == names


def test_archives_that_torch_never_writes_are_refused(tmp_path):
    with pytest.raises(InputError, match="compressed"):
        read(zipped(pickle.dumps({}, 2), zipfile.ZIP_DEFLATED), tmp_path)
    with pytest.raises(InputError, match="big-endian"):
        read(zipped(pickle.dumps({}, 2), others={"byteorder": b"big"}), tmp_path)
    with pytest.raises(InputError, match=r"not one of torch\.save"):
        read(zipped(b"").replace(b"data.pkl", b"nata.pkl"), tmp_path)


def test_damaged_files_are_refused_or_read(content, tmp_path):
    """Cut short and with bytes changed: an error that is said, or arrays."""
    rng = random.Random(0)
    for _ in range(150):
        damaged = bytearray(content[: rng.choice([len(content), rng.randrange(len(content))])])
        for _ in range(rng.randint(1, 4)):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            found = read(bytes(damaged), tmp_path)
        except InputError:
            continue
        assert all(isinstance(array, np.ndarray) for array in found.values())
