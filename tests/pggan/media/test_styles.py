"""Mixed styles and ways through w are what they claim to be."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from datatools.errors import SettingError
from pggan.config.style import StyleConfig
from pggan.media.styles import StyleLoop, mixing_grid, places_of, style_generator, w_of
from pggan.model.files import Model, new_model
from pggan.model.style import Look
from pggan.rng import seeded

CONFIG = StyleConfig(16, fmap_base=32, fmap_max=8, latent_size=8, mapping_layers=2)


def made(config: StyleConfig = CONFIG) -> Model:
    with seeded(3, torch.device("cpu")):
        return new_model(config)


def test_the_styles_of_each_kind() -> None:
    def kinds(resolution: int) -> list[range]:
        config = replace(CONFIG, resolution=resolution)
        return [places_of(config, name) for name in ("coarse", "middle", "fine")]

    assert kinds(1024) == [range(4), range(4, 8), range(8, 18)]  # as in the StyleGAN paper's figure 3
    assert kinds(64) == [range(4), range(4, 8), range(8, 10)]
    assert kinds(32) == [range(2), range(2, 6), range(6, 8)]
    assert kinds(16) == [range(2), range(2, 4), range(4, 6)]
    assert places_of(CONFIG, "1-3") == range(1, 4)
    assert places_of(CONFIG, "5") == range(5, 6)


@pytest.mark.parametrize(
    ("resolution", "layers", "message"),
    [
        (16, "top", "'top': must be coarse, middle, fine, or places such as 0-3"),
        (16, "1-", None),
        (16, "-1", "'-1': must be"),
        (16, "4-6", "4-6: a model of 16 x 16 pixels does not have them; its places are 0-5"),
        (16, "3-2", "3-2: a model of 16 x 16"),
        (8, "middle", "middle: a model of 8 x 8 pixels does not have them"),
    ],
)
def test_places_that_are_not_there(resolution: int, layers: str, message: str | None) -> None:
    config = replace(CONFIG, resolution=resolution)
    if message is None:
        assert places_of(config, layers) == range(1, 2)
        return
    with pytest.raises(SettingError) as caught:
        places_of(config, layers)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_grid_mixes_rows_and_columns() -> None:
    model = made()
    rows, columns = [7, 9], [1, 2, 3]
    own = dict(zip([*rows, *columns], model.pictures([*rows, *columns]), strict=True))

    def grid(places: range) -> list[list[np.ndarray]]:
        pictures = mixing_grid(model, rows, columns, places)
        assert pictures.shape == (12, 16, 16, 3)
        return list(pictures.reshape(3, 4, 16, 16, 3))

    some = grid(range(2, 4))
    assert (some[0][0] == 0).all()
    for number, seed in enumerate(columns):
        assert (some[0][number + 1] == own[seed]).all()
    for number, seed in enumerate(rows):
        assert (some[number + 1][0] == own[seed]).all()
    generator = style_generator(model, "mix", "")
    w = w_of(generator, model.latents([9, 3]), None)
    ws = generator.broadcast(w).clone()
    ws[0, 2:4] = ws[1, 2:4]
    expected = (generator.synthesize(ws[:1])[0] * 127.5 + 127.5).round().clamp(0, 255).byte().permute(1, 2, 0)
    assert np.abs(some[2][3].astype(int) - expected.numpy()).max() <= 1
    everything, nothing = grid(range(6)), mixing_grid(model, rows, columns, range(0))  # but for rounding
    assert np.abs(np.int32(everything[1][2]) - own[2]).max() <= 1
    assert np.abs(np.int32(nothing[6]) - own[7]).max() <= 1


def test_a_grid_is_truncated() -> None:
    model = made()
    style_generator(model, "mix", "").look = Look(psi=0.0)
    pictures = mixing_grid(model, [1, 2], [3], range(2))
    assert all((picture == pictures[1]).all() for picture in pictures[1:])
    assert pictures[1].std() > 0


def test_a_way_through_w_is_closed_and_passes_its_keys() -> None:
    generator = style_generator(made(), "space", "w")
    loop = StyleLoop(generator, 2, seed=5, keys=3, labels=None)
    ws = loop(np.linspace(0, 1, 301))
    assert ws.shape == (301, 2, 8)
    torch.testing.assert_close(ws[0], ws[-1])
    steps = (ws[1:] - ws[:-1]).norm(dim=2)
    assert steps.max() < 3 * steps.mean()  # no jumps, and none where the way closes
    alone = StyleLoop(generator, 1, seed=5, keys=3, labels=None)(np.array([0.0, 1 / 3]))
    torch.testing.assert_close(alone[:, 0], ws[[0, 100], 0])
    assert (loop(np.array([0.5])) - StyleLoop(generator, 2, 6, 3, None)(np.array([0.5]))).abs().max() > 0.01
    assert (alone[0] - alone[1]).abs().max() > 0.01


def test_labels_choose_the_way() -> None:
    generator = style_generator(made(replace(CONFIG, classes=2)), "space", "w")
    ways = [StyleLoop(generator, 1, 0, 2, torch.eye(2)[[label]])(np.array([0.25])) for label in (0, 1)]
    assert (ways[0] - ways[1]).abs().max() > 0.01
