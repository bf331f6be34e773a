"""The image model: folding, category maps, the picture cache, training and its errors."""

import dataclasses

import keras
import numpy as np
import pytest
from PIL import Image, ImageDraw

from rakuten_models.preprocessing.image import ImageSettings
from training.errors import BackboneError, ImageTrainingError
from training.image import callbacks
from training.image.backbone import fold_batch_normalization, load_backbone
from training.image.feature_cache import FrozenBackbone, extract_features
from training.image.linear_probe import balanced_weights, fit_linear_head
from training.image.model import build_image_model
from training.image.trainer import ImageRun, LabelledImages, fit_image_model
from training.settings import AUGMENTATIONS, ImageTrainingSettings

pytestmark = pytest.mark.slow

SIZE = 64

COLORS = ("crimson", "seagreen", "royalblue")

QUICK = ImageTrainingSettings(alpha=0.35, epochs=2, batch_size=8, augmentations=AUGMENTATIONS[:2])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Paths of 24 drawn pictures of three colours, and their colours' numbers."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(3)
    paths, category_index = [], np.arange(24) % 3
    for row, category in enumerate(category_index):
        image = Image.new("RGB", (80, 64), "white")
        left, top = (int(value) for value in generator.integers(2, 30, 2))
        ImageDraw.Draw(image).ellipse((left, top, left + 34, top + 30), fill=COLORS[category])
        path = folder / f"picture_{row}.png"
        image.save(path)
        paths.append(str(path))
    return paths, category_index


def fit_all(pictures, cache_dir, settings=QUICK, **run):
    paths, category_index = pictures
    return fit_image_model(
        LabelledImages(paths[:18], category_index[:18]),
        LabelledImages(paths[18:], category_index[18:]),
        ImageSettings(size=SIZE),
        settings,
        ImageRun(cache_dir, **{"seed": 1, **run}),
        categories=3,
        backbone_weights=None,
    )


def fit(*arguments, **run):
    return fit_all(*arguments, **run).model


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    cache_dir = tmp_path_factory.mktemp("cache")
    return fit(pictures, cache_dir), cache_dir


def randomize_normalization(model):
    generator = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            channels = layer.gamma.shape[0]
            layer.set_weights(
                [
                    generator.uniform(0.5, 1.5, channels),
                    generator.normal(0, 0.3, channels),
                    generator.normal(0, 0.3, channels),
                    generator.uniform(0.2, 3.0, channels),
                ]
            )


def test_folding_is_exact_with_real_statistics():
    network = keras.applications.MobileNetV2(input_shape=(64, 64, 3), alpha=0.35, include_top=False, weights=None)
    randomize_normalization(network)
    folded = fold_batch_normalization(network)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers)
    values = np.random.default_rng(1).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    expected = np.asarray(network(values, training=False))
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(np.asarray(folded(values)), expected, atol=1e-4 * np.abs(expected).max())


def test_folding_refuses_what_it_cannot_fold():
    entry = keras.Input((4, 4, 3))
    model = keras.Model(entry, keras.layers.BatchNormalization()(keras.layers.ReLU()(entry)))
    with pytest.raises(ValueError, match="only a normalisation directly after"):
        fold_batch_normalization(model)


def test_backbone_from_pixels_equals_the_published_network(tmp_path):
    network = keras.applications.MobileNetV2(input_shape=(64, 64, 3), alpha=0.35, include_top=False, weights=None)
    randomize_normalization(network)
    file = tmp_path / "backbone.weights.h5"
    network.save_weights(file)
    pixels = np.random.default_rng(2).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    expected = np.asarray(network(pixels.astype(np.float32) / 127.5 - 1.0, training=False))
    found = np.asarray(load_backbone(64, 0.35, file)(pixels))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_category_maps_average_to_the_logits(trained, pictures):
    model, _ = trained
    pixels = np.random.default_rng(4).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    outputs = {name: np.asarray(values) for name, values in model({"pixels": pixels}).items()}
    assert outputs["category_maps"].shape == (3, 2, 2, 3)
    np.testing.assert_allclose(outputs["category_maps"].mean(axis=(1, 2)), outputs["logits"], atol=1e-5)
    kernel, bias = model.get_layer("category_maps").get_weights()
    np.testing.assert_allclose(outputs["features"] @ kernel[0, 0] + bias, outputs["logits"], atol=1e-4)


def test_reloads_in_safe_mode_and_compiles(trained, tmp_path):
    from training.pipeline.export import save_and_compile

    model, _ = trained
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    pixels = np.random.default_rng(5).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    before = np.asarray(keras.ops.softmax(copy({"pixels": pixels})["logits"]))
    save_and_compile(copy, tmp_path, "image", {"pixels": pixels})
    again = keras.saving.load_model(tmp_path / "image_model.keras", safe_mode=True)
    after = np.asarray(keras.ops.softmax(again({"pixels": pixels})["logits"]))
    np.testing.assert_allclose(after, before, atol=5e-3)


def test_same_seed_same_model_also_from_the_cache(trained, pictures, tmp_path):
    model, cache_dir = trained
    for folder in (cache_dir, tmp_path):
        for one, other in zip(model.get_weights(), fit(pictures, folder).get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_goes_on_from_its_checkpoint(pictures, trained, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    model, cache_dir = trained
    with pytest.raises(KeyboardInterrupt):
        fit(pictures, cache_dir, callbacks=[Stop()], checkpoint_dir=tmp_path)
    resumed = fit(pictures, cache_dir, checkpoint_dir=tmp_path)
    for one, other in zip(model.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("step", [(0, 1), (1, 0)], ids=["first epoch", "last epoch"])
def test_goes_on_within_an_epoch(pictures, trained, tmp_path, monkeypatch, step):
    """Killed after a batch, it goes on with the next one and ends with the same numbers."""

    class Stop(keras.callbacks.Callback):
        epoch = 0

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            if (self.epoch, batch) == step:
                raise KeyboardInterrupt

    monkeypatch.setattr(callbacks, "SECONDS_BETWEEN", 0.0)
    model, cache_dir = trained
    with pytest.raises(KeyboardInterrupt):
        fit(pictures, cache_dir, callbacks=[Stop()], checkpoint_dir=tmp_path)
    steps = []
    resumed = fit(pictures, cache_dir, checkpoint_dir=tmp_path, progress=lambda *each: steps.append(each))
    done = [done for stage, done, _ in steps if stage == "image model"]
    of = steps[-1][2]
    assert done == list(range(step[0] * (of // 2) + step[1] + 2, of + 1))
    for one, other in zip(model.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_several_runs_are_averaged_and_can_be_stopped_between(pictures, trained, tmp_path):
    class Stop(keras.callbacks.Callback):
        begun = 0

        def on_train_begin(self, logs=None):
            self.begun += 1
            if self.begun == 2:
                raise KeyboardInterrupt

    model, cache_dir = trained
    two = dataclasses.replace(QUICK, averaged_runs=2)
    with pytest.raises(KeyboardInterrupt):
        fit(pictures, cache_dir, two, callbacks=[Stop()], checkpoint_dir=tmp_path)
    steps = []
    averaged = fit(pictures, cache_dir, two, checkpoint_dir=tmp_path, progress=lambda *step: steps.append(step))
    assert [done for stage, done, _ in steps if stage == "image model"][-1] == steps[-1][2]
    again = fit(pictures, cache_dir, two)
    for one, other in zip(again.get_weights(), averaged.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-9)
    single, mean = (of.get_layer("category_maps").get_weights()[0] for of in (model, averaged))
    assert np.abs(mean - single).max() > 0.1 * np.abs(single).max()


def test_fast_mode_stops_at_the_linear_head(pictures, tmp_path):
    fitted = fit_all(pictures, tmp_path, QUICK.fast())
    model = fitted.model
    untouched = build_image_model(3, size=SIZE, alpha=0.35, backbone_weights=None)
    assert [weight.shape for weight in model.weights] == [weight.shape for weight in untouched.weights]
    assert fitted.unreadable_pictures == () and fitted.head.penalty in QUICK.head_penalties
    assert fitted.histories == () and list(tmp_path.rglob("pooled.npy"))
    assert not list(tmp_path.rglob("activations.npy"))


def test_unreadable_pictures_are_left_out_and_reported(pictures, tmp_path):
    paths, category_index = pictures
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    model = build_image_model(3, size=SIZE, alpha=0.35, backbone_weights=None)
    calls = []
    features = extract_features(
        [paths[0], str(broken), str(tmp_path / "absent.png")],
        FrozenBackbone(model, with_activations=False),
        ImageSettings(size=SIZE),
        tmp_path / "cache",
        progress=lambda *call: calls.append(call),
    )
    assert features.readable.tolist() == [True, False, False]
    assert "broken.jpg" in features.problems[0] and "absent.png" in features.problems[1]
    assert features.activations.size == 0 and np.all(features.pooled[1:] == 0)
    assert calls == [("pictures", 3, 3)]
    with pytest.raises(ImageTrainingError, match="0 of 18 training pictures can be read"):
        fit(([str(broken)] * 24, category_index), tmp_path / "cache")


def test_wrong_backbone_weights_are_one_sentence(tmp_path):
    with pytest.raises(BackboneError, match="does not exist. Pass --backbone-weights FILE"):
        load_backbone(SIZE, 0.35, tmp_path / "none.weights.h5")
    wrong = tmp_path / "wrong.weights.h5"
    wrong.write_bytes(b"not weights")
    with pytest.raises(BackboneError, match="does not hold the weights of MobileNetV2"):
        load_backbone(SIZE, 0.35, wrong)


def test_no_network_names_the_way_out(monkeypatch):
    def fail(*arguments, weights=None, **keywords):
        raise Exception("URL fetch failure on https://example.invalid: None -- Name or service not known")

    monkeypatch.setattr(keras.applications, "MobileNetV2", fail)
    with pytest.raises(BackboneError, match="cannot be downloaded .* or pass --backbone-weights FILE"):
        load_backbone(SIZE, 0.35, "imagenet")


def test_balanced_weights_follow_the_rows_with_gold_labels():
    category_index = np.repeat([0, 1], [90, 10])
    gold = np.repeat([0, 1], [500, 500])
    weights = balanced_weights(category_index, np.ones(100), gold, 2, 0.0)
    assert weights[category_index == 1].sum() == pytest.approx(weights[category_index == 0].sum(), rel=1e-5)
    same = balanced_weights(category_index, np.ones(100), np.repeat([0, 1], [900, 100]), 2, 50.0)
    np.testing.assert_allclose(same, 1.0, rtol=1e-5)


def test_linear_head_answers_for_a_category_without_rows():
    generator = np.random.default_rng(6)
    features = generator.normal(size=(60, 5)).astype(np.float32)
    category_index = (features[:, 0] > 0).astype(np.int64)
    head = fit_linear_head(
        features[:40],
        category_index[:40],
        np.ones(40, np.float32),
        (features[40:], category_index[40:]),
        3,
        (0.1, 0.01),
    )
    logits = features[40:] @ head.kernel + head.bias
    assert np.isfinite(logits).all() and (logits.argmax(axis=1) == category_index[40:]).mean() > 0.9
    assert head.penalty in (0.1, 0.01) and head.log_loss < 0.5


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        QUICK.epochs = 3
    assert QUICK.fast().epochs == 0 and QUICK.fast().augmentations == ("plain",)
