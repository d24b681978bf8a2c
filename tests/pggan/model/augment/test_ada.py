"""ADA's transforms at fixed parameters against plain formulations, their probabilities and distributions."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pggan.model.augment.ada import colours, draw, geometry, hue_rotations, rotations, scales, shifts, transform

COUNT = 4000
RED, GREEN, BLUE = np.eye(3)


def point(matrix: NDArray[np.float64], x: float, y: float) -> list[float]:
    """Return where a matrix moves a point."""
    moved: NDArray[np.float64] = matrix @ [x, y, 1]
    return moved[:2].tolist()


def test_matrices_move_points_as_they_say() -> None:
    assert point(scales(np.array([2.0]), np.array([0.5]))[0], 3, 4) == [6, 2]
    assert point(shifts(np.array([[2.0], [-1.0]]))[0], 3, 4) == [5, 3]
    assert point(rotations(np.array([np.pi / 2]))[0], 3, 4) == pytest.approx([-4, 3])


def test_hues_turn_about_the_grey_axis() -> None:
    third = hue_rotations(np.array([2 * np.pi / 3]))[0]
    np.testing.assert_allclose([third @ RED, third @ GREEN, third @ BLUE], [GREEN, BLUE, RED], atol=1e-12)
    np.testing.assert_allclose(hue_rotations(np.array([1.3]))[0] @ np.ones(3), np.ones(3), atol=1e-12)


def test_without_strength_nothing_changes() -> None:
    rng = np.random.default_rng(0)
    assert np.array_equal(geometry(rng, 50, 0.0, 32), np.tile(np.eye(3), (50, 1, 1)))
    np.testing.assert_allclose(colours(rng, 50, 0.0), np.tile(np.eye(3, 4), (50, 1, 1)), atol=1e-15)


def test_pictures_that_keep_their_places_are_not_filtered() -> None:
    images = torch.rand(2, 3, 8, 8)
    places = torch.eye(2, 3).repeat(2, 1, 1)
    places[1, 0, 2] = 0.25  # a pixel
    found = transform(images, places, torch.eye(3, 4).repeat(2, 1, 1))
    assert torch.equal(found[0], images[0])
    torch.testing.assert_close(found[1, :, 3:5, 3:5], images[1, :, 3:5, 4:6], atol=0.01, rtol=0)


def test_colours_are_those_of_the_matrix() -> None:
    images = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    matrices = torch.rand(2, 3, 4, dtype=torch.float64)
    found = transform(images, torch.eye(2, 3).repeat(2, 1, 1), matrices)
    for index in range(2):
        pixel = torch.cat([images[index, :, 1, 2], torch.ones(1)])
        torch.testing.assert_close(found[index, :, 1, 2], matrices[index] @ pixel)


def test_what_is_drawn_leads_from_the_result_back_to_the_picture() -> None:
    places, _ = draw(np.random.default_rng(4), 20, 0.8, 16)
    forward = geometry(np.random.default_rng(4), 20, 0.8, 16)
    half = np.array([8.0, 8.0, 1.0])
    for to, back in zip(forward, places, strict=True):
        moved = to @ [3.0, -5.0, 1.0]  # pixels from the centre
        np.testing.assert_allclose(back @ (moved / half), [3 / 8, -5 / 8], atol=1e-5)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_places_have_the_papers_distribution(strength: float) -> None:
    """Flip and scales are in the determinant and the singular values of the product, shifts in its last column."""
    found = geometry(np.random.default_rng(1), COUNT, strength, 64)
    area = np.linalg.det(found)
    zoom = np.log2(np.abs(area)) / 2  # the other scale keeps the area
    assert np.mean(area < 0) == pytest.approx(strength / 2, abs=0.03)
    assert np.mean(np.abs(zoom) > 1e-9) == pytest.approx(strength, abs=0.03)
    assert zoom.std() == pytest.approx(0.2 * np.sqrt(strength), rel=0.07)
    singular = np.linalg.svd(found[:, :2, :2], compute_uv=False)
    stretch = np.log2(singular[:, 0] / singular[:, 1]) / 2
    assert np.mean(stretch > 1e-9) == pytest.approx(strength, abs=0.03)
    assert np.sqrt(np.mean(stretch**2)) == pytest.approx(0.2 * np.sqrt(strength), rel=0.07)
    shift = found[:, :2, 2]
    whole, fraction = 8.0**2 / 3, 8.0**2  # variances: uniform from -8 to 8 pixels, and normal
    assert shift.var() == pytest.approx(strength * (whole + fraction), rel=0.15)


def test_either_rotation_has_the_strength_as_its_probability() -> None:
    found = geometry(np.random.default_rng(2), COUNT, 0.5, 64)[:, :2, :2]
    upright = np.abs(found[:, 0, 1]) + np.abs(found[:, 1, 0]) < 1e-9
    turned = np.abs(found[:, 0, 0]) + np.abs(found[:, 1, 1]) < 1e-9
    # neither rotation, and quarters: none drawn or one of the four, half of which keep the axes
    assert np.mean(upright | turned) == pytest.approx(0.5, abs=0.03)
    assert np.mean(turned) == pytest.approx(0.5 * 0.25, abs=0.03)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_colours_have_the_papers_distribution(strength: float) -> None:
    found = colours(np.random.default_rng(3), COUNT, strength)
    grey = np.full(3, 1 / 3)
    contrast = found[:, :, :3].sum(axis=2) @ grey  # of greys, with the flip's sign
    assert np.mean(contrast < 0) == pytest.approx(strength / 2, abs=0.03)
    assert np.log2(np.abs(contrast)).std() == pytest.approx(0.5 * np.sqrt(strength), rel=0.07)
    brightness = found[:, :, 3] @ grey / contrast
    assert brightness.std() == pytest.approx(0.2 * np.sqrt(strength), rel=0.07)
    assert np.mean(np.abs(brightness) > 1e-9) == pytest.approx(strength, abs=0.03)
    reds = found[:, :, 0] - grey * contrast[:, None]  # what is left of red, across the grey axis
    saturation = np.linalg.norm(reds, axis=1) / np.sqrt(2 / 3) / np.abs(contrast)
    assert np.log2(saturation).std() == pytest.approx(np.sqrt(strength), rel=0.07)
    hue = np.arctan2(reds @ (GREEN - BLUE) / np.sqrt(2), reds @ (2 * RED - GREEN - BLUE) / np.sqrt(6))
    assert np.mean(np.abs(hue * np.sign(contrast)) > 1e-6) >= strength - 0.03
    assert np.abs(hue).max() > 3


@pytest.mark.parametrize("size", [4, 8])
def test_gradients_of_any_order_are_exact(size: int) -> None:
    images = torch.rand(2, 3, size, size, dtype=torch.float64, requires_grad=True)
    places, colour = (torch.from_numpy(drawn) for drawn in draw(np.random.default_rng(5), 2, 0.9, size))
    assert torch.autograd.gradcheck(lambda x: transform(x, places, colour), (images,), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: transform(x, places, colour) ** 3, (images,), fast_mode=True)
