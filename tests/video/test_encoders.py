import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_videos import shapes, tone
from tiny_encoders import DIMS

from mmcse.errors import MissingFileError, UserError
from mmcse.resampling import resampling_matrix
from mmcse.video import Clip, clips
from mmcse.video.encoders import clap as clap_module
from mmcse.video.encoders import hub, images, spectrogram, vggish
from mmcse.video.encoders.base import Compute, fingerprint, is_offline
from mmcse.video.encoders.clap import CLAP, REPOSITORY
from mmcse.video.encoders.clip import CLIP
from mmcse.video.encoders.r2plus1d import R2Plus1D
from mmcse.video.encoders.resnet import ResNet152
from mmcse.video.encoders.vggish import VGGish

pytest.importorskip("transformers", reason="CLIP and CLAP need mmcse[video]")

ENCODERS = (CLAP, CLIP, R2Plus1D, ResNet152, VGGish)
PROMPTS = ["A photo of a dog.", "This is a sound of a cat, in the rain"]


@pytest.fixture(scope="module")
def load(tiny_weights):
    return lambda encoder, **options: encoder.load(tiny_weights, **{"device": "cpu", **options})


def made_clip(seconds=10, seed=0, height=48, width=64):
    """A clip without a file: moving shapes in noise, a tone in noise."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 99, (8 * seconds, height, width, 3))
    frames = shapes(np.arange(8 * seconds) / 8, width, height) // 2 + noise
    audio = {
        rate: (tone(seconds, rate, frequency=200 + 300 * seed) + 0.1 * rng.standard_normal(seconds * rate)).astype("f4")
        for rate in (16000, 48000)
    }
    return Clip(None, 0.0, float(seconds), frames.astype(np.uint8), audio, True, True, seconds)


CLIP_, SHORT = made_clip(), made_clip(2)


class TestAllEncoders:
    @pytest.mark.parametrize("encoder", ENCODERS)
    def test_shape_dtype_and_determinism(self, load, encoder):
        loaded = load(encoder)
        features = loaded.encode([SHORT])
        assert features.shape == (1, loaded.tokens(2), loaded.dim)
        assert features.dtype == np.float32
        assert np.isfinite(features).all()
        np.testing.assert_array_equal(features, load(encoder).encode([SHORT]))

    @pytest.mark.parametrize("encoder", ENCODERS)
    def test_a_clip_is_encoded_the_same_in_any_company(self, load, encoder):
        loaded = load(encoder)
        company = [made_clip(2, seed=1, height=80, width=40), SHORT, made_clip(2, seed=2)]
        np.testing.assert_allclose(loaded.encode(company)[1], loaded.encode([SHORT])[0], rtol=2e-4, atol=2e-5)

    @pytest.mark.parametrize("encoder", ENCODERS)
    def test_features_depend_on_what_is_seen_or_heard(self, load, encoder):
        silent = replace(SHORT, audio={rate: np.zeros_like(x) for rate, x in SHORT.audio.items()})
        black = replace(SHORT, frames=np.zeros_like(SHORT.frames))
        loaded = load(encoder)
        features, deaf, blind = (loaded.encode([clip]) for clip in (SHORT, silent, black))
        hears, sees = (not np.array_equal(features, other) for other in (deaf, blind))
        assert (hears, sees) == (encoder.stream == "audio", encoder.stream != "audio")

    @pytest.mark.parametrize("seconds", [1, 4])
    @pytest.mark.parametrize("encoder", ENCODERS)
    def test_windows_of_other_lengths_have_a_feature_a_segment(self, load, encoder, seconds):
        loaded = load(encoder)
        assert loaded.encode([made_clip(seconds)] * 2).shape == (2, seconds, loaded.dim)
        assert loaded.tokens(seconds) == seconds

    @pytest.mark.parametrize("encoder", ENCODERS)
    def test_bfloat16_is_close(self, load, encoder):
        exact, rough = (load(encoder, dtype=dtype).encode([SHORT]) for dtype in ("float32", "bfloat16"))
        assert rough.dtype == np.float32
        assert 0 < np.abs(rough - exact).mean() < 0.1 * np.abs(exact).mean()

    @pytest.mark.parametrize("encoder", ENCODERS)
    def test_sources_are_told(self, encoder):
        weights = encoder.weights
        assert len(weights.revision) in (8, 40)
        assert weights.licence
        assert weights.size_bytes > 1e8
        assert weights.source.startswith("https://") == weights.file.endswith(".pth")

    @pytest.mark.parametrize("encoder", ENCODERS)
    def test_other_weights_have_another_fingerprint(self, load, encoder, tmp_path):
        first, second = load(encoder), load(encoder)
        assert fingerprint(first.network) == fingerprint(second.network)
        next(iter(second.network.parameters())).data.flatten()[0] += 1e-3
        assert fingerprint(first.network) != fingerprint(second.network)

    def test_devices_and_dtypes_that_are_not_there(self, load):
        for options in ({"device": "cuda:99"}, {"device": "tpu?"}, {"dtype": "float16"}):
            with pytest.raises(UserError, match=re.escape(next(iter(options.values())))):
                load(VGGish, **options)
        assert Compute.of("auto", "float32").device.type == ("cuda" if torch.cuda.is_available() else "cpu")


class TestImages:
    frames = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (3, 3, 47, 90), dtype=np.uint8))

    def test_squash_is_plain_bilinear_interpolation(self):
        """Written out: pixel centres at half integers, no low-pass filter, the edge repeated."""

        def weights(old, new):
            position = ((np.arange(new) + 0.5) * old / new - 0.5).clip(0)
            lower = np.floor(position).astype(int)
            matrix = np.zeros((new, old))
            np.add.at(matrix, (np.arange(new), lower), 1 - (position - lower))
            np.add.at(matrix, (np.arange(new), np.minimum(lower + 1, old - 1)), position - lower)
            return matrix

        expected = weights(47, 32) @ (self.frames.numpy() / 255) @ weights(90, 32).T
        np.testing.assert_allclose(images.squash(self.frames, 32).numpy(), expected, atol=1e-5)

    def test_squash_smoothly_is_pillows(self):
        image = pytest.importorskip("PIL.Image")
        found = images.squash_smoothly(self.frames, 32) * 255
        for frame, mine in zip(self.frames, found, strict=True):
            pillows = image.fromarray(frame.permute(1, 2, 0).numpy()).resize((32, 32), image.Resampling.BILINEAR)
            assert (mine.permute(1, 2, 0) - torch.from_numpy(np.array(pillows))).abs().max() <= 1

    @pytest.mark.parametrize(("height", "width"), [(47, 90), (90, 47), (33, 33)])
    def test_crop_is_pillows_resize_and_the_middle(self, height, width):
        image = pytest.importorskip("PIL.Image")
        frame = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, height, width), dtype=np.uint8))
        scale = 40 / min(height, width)
        size = (int(width * scale + 1e-6), int(height * scale + 1e-6))
        pillows = image.fromarray(frame[0].permute(1, 2, 0).numpy()).resize(size, image.Resampling.BILINEAR)
        left, top = ((length - 32) // 2 for length in size)
        expected = np.array(pillows.crop((left, top, left + 32, top + 32)))
        found = images.crop(frame, 40, 32)[0].permute(1, 2, 0) * 255
        assert np.abs(found.numpy() - expected).max() <= 1.01

    def test_normalisation_is_the_libraries(self):
        from transformers import image_utils

        assert list(images.CLIP_MEAN) == image_utils.OPENAI_CLIP_MEAN
        assert list(images.CLIP_STD) == image_utils.OPENAI_CLIP_STD
        assert list(images.IMAGENET_MEAN) == image_utils.IMAGENET_DEFAULT_MEAN
        assert list(images.IMAGENET_STD) == image_utils.IMAGENET_DEFAULT_STD
        frames = torch.rand(2, 3, 4, 5)
        expected = (frames[1, 2] - images.CLIP_MEAN[2]) / images.CLIP_STD[2]
        torch.testing.assert_close(images.normalise(frames, images.CLIP_MEAN, images.CLIP_STD)[1, 2], expected)

    def test_torchvisions_transforms(self):
        transforms = pytest.importorskip("torchvision.transforms.functional", exc_type=ImportError)
        plain = transforms.resize(self.frames.float() / 255, [224, 224], antialias=False)
        torch.testing.assert_close(images.squash(self.frames, 224), plain, atol=1e-6, rtol=0)
        pillow = pytest.importorskip("PIL.Image").fromarray(self.frames[0].permute(1, 2, 0).numpy())
        cropped = transforms.to_tensor(transforms.center_crop(transforms.resize(pillow, 256), [224, 224]))
        assert (images.crop(self.frames, 256, 224)[0] - cropped).abs().max() <= 1.01 / 255


class TestSpectrograms:
    sound = CLIP_.audio[48000]

    def test_claps_is_the_extractors(self):
        from transformers import ClapFeatureExtractor

        extractor = ClapFeatureExtractor(frequency_min=50, frequency_max=14_000, truncation="fusion")
        quantised = (self.sound.clip(-1, 1) * 32767).astype(np.int16).astype(np.float32) / 32767
        expected = extractor(quantised, sampling_rate=48000, return_tensors="np")["input_features"][0, 0]
        found = clap_module.log_mel(torch.from_numpy(self.sound)[None])[0].numpy()
        assert found.shape == (1001, 64)
        np.testing.assert_allclose(found, expected, atol=2e-2)
        assert np.abs(found - expected).mean() < 1e-4

    def test_vggishs_is_as_published(self):
        """Magnitudes through triangles in mel, a small constant, the logarithm; no padding at the beginning."""
        from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

        filters = mel_filter_bank(257, 64, 125, 7500, 16000, mel_scale="htk", triangularize_in_mel_space=True)
        sound = CLIP_.audio[16000][:16000]
        options = {"power": 1.0, "center": False, "mel_filters": filters, "mel_floor": 0}
        magnitudes = spectrogram(sound, window_function(400, "hann"), 400, 160, 512, **options)
        expected = np.log(magnitudes.T[:96] + 0.01)
        found = vggish.log_mel(torch.from_numpy(sound)[None])[0].numpy()
        assert found.shape == (96, 64)
        np.testing.assert_allclose(found, expected, atol=1e-3)

    @pytest.mark.parametrize("triangles_in", ["mel", "hertz"])
    def test_filters(self, triangles_in):
        filters = spectrogram.mel_filters(2049, 16000, 20, 125, 7500, triangles_in=triangles_in).numpy()
        frequencies = np.linspace(0, 8000, 2049)
        assert filters.min() == 0
        assert filters.max() <= 1
        assert not filters[frequencies < 125].any()
        assert not filters[frequencies > 7500].any()
        inside = (frequencies > 400) & (frequencies < 6500)
        np.testing.assert_allclose(filters.sum(axis=1)[inside], 1, atol=1e-5)


class TestClip:
    def test_frames_and_embeddings_are_the_librarys(self, load, tiny_weights):
        from transformers import CLIPModel

        model = CLIPModel.from_pretrained(tiny_weights / CLIP.weights.file).eval()
        chosen = np.round(np.linspace(0, 79, 10)).astype(int)
        assert chosen.tolist() == [0, 9, 18, 26, 35, 44, 53, 61, 70, 79]
        frames = torch.from_numpy(CLIP_.frames[chosen]).permute(0, 3, 1, 2)
        pixels = images.normalise(images.squash(frames, 32), images.CLIP_MEAN, images.CLIP_STD)
        with torch.inference_mode():
            expected = model.get_image_features(pixel_values=pixels).pooler_output
        expected = expected / expected.norm(dim=-1, keepdim=True)
        np.testing.assert_allclose(load(CLIP).encode([CLIP_])[0], expected.numpy(), atol=1e-5)

    def test_logits_are_the_librarys(self, load, tiny_weights):
        from transformers import CLIPModel, CLIPTokenizer

        clip, folder = load(CLIP), tiny_weights / CLIP.weights.file
        model, tokenizer = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
        tokens = tokenizer(PROMPTS, padding=True, return_tensors="pt")
        frames = torch.from_numpy(CLIP_.frames[:1]).permute(0, 3, 1, 2)
        pixels = images.normalise(images.squash(frames, 32), images.CLIP_MEAN, images.CLIP_STD)
        with torch.inference_mode():
            expected = model(**tokens, pixel_values=pixels).logits_per_image
        texts = clip.text_embeddings(PROMPTS)
        assert texts.shape == (2, DIMS["clip"])
        logits = clip.logit_scale * clip.encode([CLIP_])[0, :1] @ texts.T
        np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-4, atol=1e-4)

    def test_a_text_is_embedded_the_same_in_any_company(self, load):
        for encoder in (load(CLIP), load(CLAP)):
            alone = encoder.text_embeddings(PROMPTS[:1])
            np.testing.assert_allclose(encoder.text_embeddings(PROMPTS)[:1], alone, atol=1e-5)
            np.testing.assert_allclose(np.linalg.norm(alone, axis=-1), 1, atol=1e-5)


class TestClap:
    def test_the_map_is_the_librarys_row_by_row(self, load, tiny_weights):
        """Token n is at frequency row n // 32 and time n % 32, as `resampling_matrix` reads it."""
        from transformers import ClapModel

        model = ClapModel.from_pretrained(tiny_weights / REPOSITORY.file).eval()
        mel = clap_module.log_mel(torch.from_numpy(CLIP_.audio[48000])[None])[:, None].repeat(1, 4, 1, 1)
        with torch.inference_mode():
            out = model.audio_model(input_features=mel, is_longer=torch.zeros(1, 1, dtype=torch.bool))
        found = load(CLAP).encode([CLIP_])[0]
        for token in (0, 31, 32, 63):
            expected = out.last_hidden_state[0, :, token // 32, token % 32].numpy()
            np.testing.assert_allclose(found[token], expected, atol=1e-4)

    def test_other_lengths_are_made_of_maps_of_ten_seconds(self, load):
        clap, long = load(CLAP), made_clip(13)
        pieces = np.zeros((2, 480_000), np.float32)
        pieces.reshape(-1)[: 13 * 48000] = long.audio[48000]
        maps = np.stack([clap.encode([replace(CLIP_, audio={48000: piece})])[0] for piece in pieces])
        segments = resampling_matrix("clap_map", 64, 10).numpy() @ maps
        np.testing.assert_allclose(clap.encode([long])[0], segments.reshape(20, -1)[:13], atol=1e-4)

    def test_segments_are_embedded_as_seconds_repeated(self, load, tiny_weights):
        from transformers import ClapFeatureExtractor, ClapModel

        model = ClapModel.from_pretrained(tiny_weights / REPOSITORY.file).eval()
        extractor = ClapFeatureExtractor(frequency_min=50, frequency_max=14_000)
        quantised = (CLIP_.audio[48000].clip(-1, 1) * 32767).astype(np.int16).astype(np.float32) / 32767
        inputs = extractor(quantised.reshape(10, 48000), sampling_rate=48000, return_tensors="pt")
        inputs["is_longer"] = torch.zeros(10, 1, dtype=torch.bool)  # the extractor draws one that it calls longer
        with torch.inference_mode():
            expected = model.get_audio_features(**inputs).pooler_output.numpy()
        found = load(CLAP).segment_embeddings([CLIP_, CLIP_])
        assert found.shape == (2, 10, DIMS["embedding"])
        np.testing.assert_allclose(found[1], expected, atol=1e-4)

    def test_logit_scale(self, load):
        assert load(CLAP).logit_scale == pytest.approx(load(CLAP).network.logit_scale_a.exp().item())

    def test_laions_checkpoint_is_read(self, load, tiny_weights, tmp_path, caplog):
        """Found beside the configuration; what a training leaves in the file is survived."""
        clap = load(CLAP)
        (tmp_path / REPOSITORY.file).symlink_to(tiny_weights / REPOSITORY.file)
        torch.save(
            {
                "epoch": np.int64(8),
                "best": np.float64(0.5),
                "optimizer": {"state": {}},
                "state_dict": as_laion(clap.network.state_dict()),
            },
            tmp_path / CLAP.weights.file,
        )
        caplog.clear()
        again = CLAP.load(tmp_path, device="cpu")
        assert not caplog.records
        torch.testing.assert_close(again.network.state_dict(), clap.network.state_dict())

    @pytest.mark.parametrize("damage", ["truncated", "incomplete", "empty"])
    def test_a_checkpoint_that_cannot_be_used(self, load, tiny_weights, tmp_path, damage):
        state = as_laion(load(CLAP).network.state_dict())
        (tmp_path / REPOSITORY.file).symlink_to(tiny_weights / REPOSITORY.file)
        path = tmp_path / CLAP.weights.file
        del state["module.audio_branch.norm.weight"]
        torch.save({"state_dict": state} if damage == "incomplete" else {}, path)
        if damage == "truncated":
            path.write_bytes(path.read_bytes()[:100])
        message = r"audio_encoder\.norm\.weight" if damage == "incomplete" else "Fetch it again"
        with pytest.raises(UserError, match=message):
            CLAP.load(tmp_path, device="cpu")

    def test_weights_of_the_repository_are_used_with_a_warning(self, load, caplog):
        load(CLAP)
        assert "not VALOR's" in caplog.text


def as_laion(state):
    """A state dict of transformers' ClapModel as LAION's training code names and stores it."""
    old = {"module.logit_scale_a": state["logit_scale_a"], "module.logit_scale_t": state["logit_scale_t"]}
    for name, value in state.items():
        if name.endswith(("query.weight", "query.bias")) and name.startswith("audio"):
            parts = [state[name.replace("query", part)] for part in ("query", "key", "value")]
            old[_laion_name(name).replace("query", "qkv")] = torch.cat(parts)
        elif not (name.startswith("audio") and (".key." in name or ".value." in name)):
            old[_laion_name(name)] = value
    old["module.audio_branch.tscam_conv.weight"] = torch.ones(3)
    old["module.text_transform.sequential.0.weight"] = torch.ones(3)
    return old


def _laion_name(name):
    if name.startswith("text_model."):
        return name.replace("text_model.", "module.text_branch.")
    name = name.replace("audio_model.audio_encoder.", "audio_branch.").replace("batch_norm", "bn0")
    name = name.replace("projection.linear1", "projection.0").replace("projection.linear2", "projection.2")
    if ".blocks." in name:
        name = name.replace("layernorm_before", "norm1").replace("layernorm_after", "norm2")
        name = name.replace("intermediate.dense", "mlp.fc1").replace("attention.output.dense", "attn.proj")
        name = name.replace("output.dense", "mlp.fc2").replace("attention.self", "attn")
    return f"module.{name}"


class TestWeights:
    @pytest.mark.parametrize("encoder", ENCODERS)
    def test_missing_from_a_folder(self, encoder, tmp_path):
        with pytest.raises(MissingFileError) as caught:
            encoder.load(tmp_path)
        assert (REPOSITORY if encoder is CLAP else encoder.weights).file in str(caught.value)

    @pytest.mark.parametrize("encoder", ENCODERS)
    def test_offline_says_what_to_fetch(self, encoder, tmp_path, monkeypatch):
        empty_caches(monkeypatch, tmp_path)
        with pytest.raises(MissingFileError, match=r"switched off.*--weights"):
            encoder.load(offline=True)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(MissingFileError, match="switched off"):
            encoder.load()

    @pytest.mark.parametrize("encoder", [CLIP, CLAP, VGGish])
    def test_a_folder_that_is_not_there_is_no_repository(self, encoder, tmp_path, monkeypatch):
        """A mistyped `a/b` must not be looked for in the hub."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(hub, "_folder", lambda *_, **__: pytest.fail("asked the hub"))
        with pytest.raises(MissingFileError, match="a/b"):
            encoder.load(Path("a/b"))

    def test_another_repository(self, tiny_weights, tmp_path, monkeypatch):
        def fetch(repository, revision, patterns, *, local_files_only):
            assert (repository, revision) == ("owner/clip", "main")
            return str(tiny_weights / CLIP.weights.file)

        monkeypatch.setattr(hub, "_folder", fetch)
        assert CLIP.load("owner/clip", device="cpu").dim == DIMS["clip"]

    def test_the_hubs_cache_is_used_without_a_word(self, tiny_weights, tmp_path, monkeypatch, caplog):
        empty_caches(monkeypatch, tmp_path)
        folder = tmp_path / "hub" / "models--openai--clip-vit-large-patch14" / "snapshots" / CLIP.weights.revision
        folder.parent.mkdir(parents=True)
        folder.symlink_to(tiny_weights / CLIP.weights.file)
        assert CLIP.load(device="cpu", offline=True).dim == DIMS["clip"]
        assert not caplog.records

    def test_a_download_is_announced_with_its_size_and_may_fail(self, tmp_path, monkeypatch, caplog):
        empty_caches(monkeypatch, tmp_path)

        def fetch(*_, local_files_only):
            raise FileNotFoundError if local_files_only else ConnectionError("no route to host")

        monkeypatch.setattr(hub, "_folder", fetch)
        with pytest.raises(MissingFileError, match="no route to host"):
            CLIP.load(device="cpu", offline=False)
        assert caplog.messages == [
            "Downloading CLIP ViT-L/14: 1.71 GB from openai/clip-vit-large-patch14 (revision 32bd6428, licence MIT)."
        ]

    def test_files_that_are_not_the_published_ones_are_used_with_a_warning(self, load, caplog):
        load(VGGish)
        assert "not the published file" in caplog.text

    @pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04broken"])
    def test_files_that_are_no_weights(self, tmp_path, content):
        (tmp_path / VGGish.weights.file).write_bytes(content)
        with pytest.raises(UserError, match="not a file of PyTorch weights"):
            VGGish.load(tmp_path)

    @pytest.mark.parametrize("thing", [{"a": 1}, [torch.ones(2)]])
    def test_files_that_hold_something_else(self, tmp_path, thing):
        torch.save(thing, tmp_path / VGGish.weights.file)
        with pytest.raises(UserError, match="no state dict"):
            VGGish.load(tmp_path)

    def test_folders_of_the_hub_that_hold_something_else(self, tmp_path):
        (tmp_path / "config.json").write_text("{}")
        for encoder in (CLIP, CLAP):
            with pytest.raises(UserError, match="does not hold"):
                encoder.load(tmp_path)

    def test_transformers_is_not_installed(self, tiny_weights, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "transformers", None)
        with pytest.raises(UserError, match=r"pip install 'mmcse\[video\]'"):
            CLIP.load(tiny_weights)

    def test_offline_is_told_by_the_environment(self, monkeypatch):
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        assert not is_offline(None)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert is_offline(None)
        assert not is_offline(False)


def empty_caches(monkeypatch, folder):
    """Both hubs' caches in an empty folder."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.mark.slow
def test_a_real_clip_of_llp(shared, load):
    (clip,) = clips(shared / "llp" / "BjCEufrlXm4.mp4", sample_rates=[16000, 48000])
    shapes_ = {encoder.name: load(encoder).encode([clip]).shape for encoder in ENCODERS}
    assert shapes_ == {
        "CLAP": (1, 64, DIMS["clap"]),
        "CLIP ViT-L/14": (1, 10, DIMS["clip"]),
        "R(2+1)D-18": (1, 10, DIMS["r2plus1d"]),
        "ResNet-152": (1, 80, DIMS["resnet"]),
        "VGGish": (1, 10, DIMS["vggish"]),
    }
    assert load(CLAP).segment_embeddings([clip]).shape == (1, 10, DIMS["embedding"])


@pytest.mark.slow
def test_published_sizes():
    """The widths that the layouts are known for, from the published networks' own, with fewer layers."""
    from transformers import ClapConfig, ClapModel, CLIPConfig, CLIPModel

    layers = {"num_hidden_layers": 1, "projection_dim": 768}
    large = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "patch_size": 14}
    config = CLIPConfig(vision_config={**large, **layers}, text_config=layers, projection_dim=768)
    compute = Compute.of("cpu", "float32")
    assert CLIP(CLIPModel(config), None, compute).encode([CLIP_]).shape == (1, 10, 768)
    clap = CLAP(
        ClapModel(ClapConfig(audio_config={"enable_fusion": True}, text_config={"num_hidden_layers": 1})), None, compute
    )
    assert clap.encode([CLIP_]).shape == (1, 64, 768)
    assert clap.segment_embeddings([CLIP_]).shape == (1, 10, 512)
