"""Painted portraits: simple faces of different people, lit from one side, with exact landmarks and fine detail.

Everything is painted in head coordinates (x to the right, y down, the face about 0.8 wide and 1 high on either side of
its centre) and mapped to pixels by one similarity, which also carries the landmarks.
"""

from copy import copy
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Colour = tuple[int, int, int]

_EYE_X, _EYE_Y = 0.33, -0.10
_NOSE_Y, _MOUTH_Y, _MOUTH_X = 0.26, 0.55, 0.27


@dataclass(frozen=True)
class Portrait:
    """What one rendered face looks like and how it lies in its picture."""

    seed: int
    size: tuple[int, int] = (640, 800)
    """(width, height) in pixels."""
    unit: float = 190
    """Pixels of half a face's height."""
    centre: tuple[float, float] = (320, 380)
    roll: float = 0
    """Degrees, clockwise."""
    turn: float = 0
    """Sideways shift of the features, as when the head turns a little: -0.15..0.15."""
    skin: Colour = (226, 178, 150)
    hair: Colour = (70, 45, 30)
    iris: Colour = (90, 110, 70)
    lips: Colour = (178, 92, 88)
    cloth: Colour = (60, 80, 130)
    wall: Colour = (120, 135, 140)
    light: float = -0.5
    """Where the light comes from: -1 left, 1 right."""
    smile: float = 0.1
    open_mouth: float = 0
    long_hair: bool = False
    fringe: float = 0.1
    """How far the hair comes down the forehead: 0..0.3."""
    beard: float = 0
    glasses: bool = False

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(2, 3): head coordinates to centre coordinates of pixels."""
        angle = np.deg2rad(self.roll)
        linear = self.unit * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return np.column_stack([linear, self.centre])

    @property
    def landmarks(self) -> NDArray[np.float64]:
        """(5, 2) in centre coordinates of pixels: eyes, nose, mouth corners."""
        mouth = _MOUTH_Y - self.smile * 0.5
        points = [(-_EYE_X, _EYE_Y), (_EYE_X, _EYE_Y), (0, _NOSE_Y), (-_MOUTH_X, mouth), (_MOUTH_X, mouth)]
        points = [(x + self.turn * (1.5 if y == _NOSE_Y else 1), y) for x, y in points]
        return np.array(points) @ self.matrix[:, :2].T + self.matrix[:, 2]


def render(portrait: Portrait) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB."""
    return _Canvas(portrait).paint()


class _Canvas:
    """The picture being painted: coordinate planes, colours, random textures."""

    def __init__(self, portrait: Portrait) -> None:
        self.portrait = portrait
        self.random = np.random.default_rng(portrait.seed)
        width, height = portrait.size
        linear = np.linalg.inv(portrait.matrix[:, :2])
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        columns -= np.float32(portrait.centre[0])
        rows -= np.float32(portrait.centre[1])
        self.x: Plane = (linear[0, 0] * columns + linear[0, 1] * rows).astype(np.float32)
        self.y: Plane = (linear[1, 0] * columns + linear[1, 1] * rows).astype(np.float32)
        self.fx = self.x - np.float32(portrait.turn)  # the features' own x
        self.pixel = 1 / portrait.unit
        self.image = np.zeros((height, width, 3), dtype=np.float32)

    def paint(self) -> NDArray[np.uint8]:
        portrait = self.portrait
        self.background()
        self.shoulders()
        strands = self.strands()
        self.hair_behind(strands)
        self.face()
        for side in (-1, 1):
            self.window(side * _EYE_X + portrait.turn, _EYE_Y, 0.36).eye(side)
            self.window(side * _EYE_X + portrait.turn, -0.33, 0.36).brow(side)
        self.window(portrait.turn, _MOUTH_Y, 0.5).mouth()
        self.hair_in_front(strands)
        if portrait.glasses:
            self.window(portrait.turn, _EYE_Y, 0.9).glasses()
        grain = 1.6 * self.random.standard_normal(size=self.image.shape[:2], dtype=np.float32)
        picture = np.clip(self.image + grain[..., None], 0, 255)
        return np.rint(picture).astype(np.uint8)

    # --- tools -----------------------------------------------------------------------------------------------------

    def window(self, x: float, y: float, reach: float) -> "_Canvas":
        """The part of the canvas within `reach` of a point: painting there costs less and shows here."""
        column, row = self.portrait.matrix @ (x, y, 1)
        size = reach * self.portrait.unit
        top, left = max(int(row - size), 0), max(int(column - size), 0)
        part = copy(self)
        for name in ("x", "y", "fx", "image"):
            plane = getattr(self, name)
            setattr(part, name, plane[top : max(int(row + size), top + 2), left : max(int(column + size), left + 2)])
        return part

    def noise(self, cells: float) -> Plane:
        """Smooth noise of mean 0 and deviation about 1, `cells` bumps along half a face's height."""
        height, width = self.image.shape[:2]
        shape = (max(int(cells * height * self.pixel), 2), max(int(cells * width * self.pixel), 2))
        grid = self.random.standard_normal(size=shape, dtype=np.float32)
        return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)

    def fractal(self, cells: float, octaves: int, falling: float = 0.6) -> Plane:
        total = np.zeros(self.image.shape[:2], dtype=np.float32)
        for octave in range(octaves):
            total += falling**octave * self.noise(cells * 2**octave)
        return (total / total.std()).astype(np.float32)

    def ellipse(self, x: float, y: float, rx: float, ry: float, *, tilt: float = 0, feature: bool = True) -> Plane:
        """Approximate signed distance to an ellipse, negative inside."""
        dx, dy = (self.fx if feature else self.x) - np.float32(x), self.y - np.float32(y)
        if tilt:
            cos, sin = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
            dx, dy = cos * dx + sin * dy, cos * dy - sin * dx
        radius = np.sqrt((dx / np.float32(rx)) ** 2 + (dy / np.float32(ry)) ** 2)
        return (radius - 1) * np.float32(min(rx, ry))

    def lay(
        self, distance: Plane, colour: NDArray[np.float32] | Colour, *, soft: float = 0, opacity: float = 1
    ) -> None:
        """Paint `colour` where `distance` is negative, with an edge of `soft` (at least a pixel)."""
        edge = np.float32(max(soft, 1.2 * self.pixel))
        cover = np.clip(0.5 - distance / edge, 0, 1) * np.float32(opacity)
        self.image += cover[..., None] * (np.asarray(colour, dtype=np.float32) - self.image)

    # --- parts -----------------------------------------------------------------------------------------------------

    def background(self) -> None:
        portrait = self.portrait
        wall = np.asarray(portrait.wall, dtype=np.float32)
        shade = 1 + 0.10 * self.fractal(1, 5) + 0.12 * np.clip(-portrait.light * self.x, -1, 1)
        self.image[:] = wall * shade[..., None]
        height, width = self.image.shape[:2]
        for _ in range(14):  # lights out of focus
            x, y = self.random.uniform(0, width), self.random.uniform(0, height * 0.8)
            tint = wall + self.random.uniform(-30, 70, size=3).astype(np.float32)
            rows, columns = np.ogrid[0:height, 0:width]
            radius = np.float32(self.random.uniform(0.04, 0.11) * width)
            distance = (np.hypot(columns - x, rows - y).astype(np.float32) - radius) * np.float32(self.pixel)
            self.lay(distance, tint, soft=0.05, opacity=0.35)

    def shoulders(self) -> None:
        portrait = self.portrait
        weave = np.sin(self.x * 150) * np.sin(self.y * 150) * 0.07 + 0.05 * self.noise(60)
        folds = 0.16 * self.noise(2) - 0.25 * np.clip(np.abs(self.x) - 0.7, 0, 1) + 0.1 * portrait.light * self.x
        cloth = np.asarray(portrait.cloth, dtype=np.float32) * (1 + weave + folds)[..., None]
        self.lay(self.ellipse(0, 2.45, 1.75, 1.15, feature=False), cloth, soft=0.03)
        skin = np.asarray(portrait.skin, dtype=np.float32)
        shade = 0.80 - 0.25 * np.clip(1.35 - self.y, 0, 1) + 0.18 * portrait.light * self.x
        neck = skin * shade[..., None]
        self.lay(self.ellipse(0, 1.45, 0.52, 0.22, feature=False), neck, soft=0.04)
        self.lay(
            np.maximum(np.abs(self.x) - 0.40 - 0.12 * (self.y - 1) ** 2, np.abs(self.y - 0.95) - 0.55), neck, soft=0.04
        )

    def strands(self) -> Plane:
        """Brightness of the hair: fine strands that run down from the crown."""
        angle = np.arctan2(self.x, self.y + 1.3) + 0.05 * self.noise(2)
        radius = np.minimum(np.hypot(self.x, self.y + 1.3), 3.3).astype(np.float32)
        grid = self.random.normal(size=(6, 700)).astype(np.float32)
        columns = ((angle + np.pi) / (2 * np.pi) * 699).astype(np.float32)
        fine = cv2.remap(grid, columns, radius * 1.5, cv2.INTER_CUBIC)
        coarse = cv2.remap(cv2.GaussianBlur(grid, (0, 0), 6), columns, radius, cv2.INTER_LINEAR)
        shine = np.exp(-(((self.y + 0.75) / 0.16) ** 2)) * np.clip(1 + self.portrait.light * self.x, 0, 2)
        return (1 + 0.20 * fine + 1.3 * coarse + 0.45 * shine - 0.12 * np.abs(self.x)).astype(np.float32)

    def hair_behind(self, strands: Plane) -> None:
        hair = np.asarray(self.portrait.hair, dtype=np.float32) * (0.85 * strands)[..., None]
        wave = 0.03 * self.noise(4)
        self.lay(self.ellipse(0, -0.26, 0.97, 1.02, feature=False) + wave, hair, soft=0.035)
        if self.portrait.long_hair:
            width = 0.97 - 0.05 * np.cos(self.y * 4) + 0.10 * np.clip(self.y, 0, None)
            ends = self.y - 1.6 - 0.5 * wave - 0.25 * np.abs(self.x)
            curtain = np.maximum(np.abs(self.x) - width, np.maximum(-0.2 - self.y, ends))
            neck = np.maximum(np.abs(self.x) - 0.43, 0.5 - self.y)  # the neck stays in front
            self.lay(np.maximum(curtain + wave, -neck), hair, soft=0.05)

    def relief(self) -> Plane:
        """Height of the face's surface towards the viewer."""
        x, y = self.fx, self.y
        ball = 1 - (self.x / 0.86) ** 2 - ((self.y + 0.02) / 1.16) ** 2
        height = 0.75 * np.sqrt(np.clip(ball, 0.02, None))

        def bump(cx: float, cy: float, rx: float, ry: float, amount: float) -> Plane:
            return (amount * np.exp(-(((x - cx) / rx) ** 2) - ((y - cy) / ry) ** 2)).astype(np.float32)

        shift = 0.5 * self.portrait.turn
        height += bump(0.5 * shift, 0.05, 0.075, 0.24, 0.09) + bump(shift, _NOSE_Y - 0.02, 0.12, 0.12, 0.11)
        height += bump(-0.11 + shift, _NOSE_Y + 0.03, 0.055, 0.055, 0.05) + bump(
            0.11 + shift, _NOSE_Y + 0.03, 0.055, 0.055, 0.05
        )
        height += bump(0, 0.87, 0.20, 0.12, 0.07) - bump(0, 0.71, 0.22, 0.055, 0.03)
        for side in (-1, 1):
            height += bump(side * 0.43, 0.20, 0.22, 0.18, 0.06 + 0.12 * max(self.portrait.smile, 0))
            height -= bump(side * 0.32, _EYE_Y - 0.02, 0.21, 0.11, 0.075)
            height += bump(side * 0.31, -0.33, 0.24, 0.09, 0.035)
        height += bump(0, _MOUTH_Y - 0.07, 0.17, 0.05, 0.02) - bump(0, _MOUTH_Y - 0.17, 0.028, 0.07, 0.015)
        return height.astype(np.float32)

    def face(self) -> None:
        portrait = self.portrait
        skin = np.asarray(portrait.skin, dtype=np.float32)
        for side in (-1, 1):
            self.lay(
                self.ellipse(side * 0.79, 0.02, 0.11, 0.21, tilt=side * 0.15, feature=False), skin * 0.80, soft=0.03
            )
            self.lay(
                self.ellipse(side * 0.80, 0.02, 0.05, 0.13, tilt=side * 0.15, feature=False), skin * 0.6, soft=0.08
            )
        height = self.relief()
        slope_y, slope_x = np.gradient(cv2.GaussianBlur(height, (0, 0), 0.012 / self.pixel), self.pixel)
        # The slopes are along the picture's axes; the light is fixed to the picture too.
        normal = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
        lambert = np.clip((-slope_x * portrait.light * 0.75 + slope_y * 0.42 + 0.85) * normal, 0, None)
        gloss = np.clip((-slope_x * portrait.light * 0.5 + slope_y * 0.45 + 1) * normal / 1.2, 0, 1) ** 36
        pores = 0.012 * self.noise(80) + 0.008 * self.noise(28) + 0.014 * self.noise(6)
        blush = sum(np.exp(-(((self.fx - s * 0.45) / 0.2) ** 2) - ((self.y - 0.24) / 0.17) ** 2) for s in (-1, 1))
        tint = np.stack([1 + 0.03 * blush, 1 - 0.07 * blush, 1 - 0.05 * blush], axis=-1)
        colour = skin * tint * (0.52 + 0.55 * lambert + pores)[..., None] + 26 * gloss[..., None]
        taper = 1 + 0.10 * np.clip(self.y, 0, 1.2) + 0.22 * np.clip(self.y, 0, 1.2) ** 3
        outline = (np.hypot(self.x * taper / 0.80, (self.y + 0.02) / 1.07) - 1) * np.float32(0.8)
        if portrait.beard:
            growth = np.clip((self.y - 0.34 - 0.5 * (0.55 - np.abs(self.fx)) * (np.abs(self.fx) < 0.55)) / 0.2, 0, 1)
            growth *= portrait.beard * np.clip(0.85 + 0.35 * self.noise(75), 0, 1)
            colour += growth[..., None] * (np.asarray(portrait.hair, dtype=np.float32) * 0.9 - colour)
        self.lay(outline, colour, soft=0.018)
        for side in (-1, 1):
            nostril = self.ellipse(side * 0.075 + 0.5 * portrait.turn, _NOSE_Y + 0.075, 0.042, 0.022, tilt=side * 0.4)
            self.lay(nostril, skin * 0.34, soft=0.035, opacity=0.85)

    def eye(self, side: int) -> None:
        portrait = self.portrait
        x, y = side * _EYE_X, _EYE_Y
        dx, dy = (self.fx - np.float32(x)) * side, self.y - np.float32(y)
        upper = -0.078 + 1.9 * (dx - 0.01) ** 2 + 0.05 * dx
        lower = 0.055 - 1.35 * dx**2 - 0.03 * dx
        opening = np.maximum(upper - dy, dy - lower).astype(np.float32)
        skin = np.asarray(portrait.skin, dtype=np.float32)
        self.lay(opening - 0.012, skin * 0.55, soft=0.05, opacity=0.6)
        shade = 1 - 2.2 * np.clip(0.03 + upper - dy + 0.05, 0, 0.1) - 0.6 * dx**2
        self.lay(opening, np.array([232, 228, 224], dtype=np.float32) * shade[..., None])
        # The iris is an ellipse cut by the lids.
        distance = np.hypot(dx, dy + 0.008).astype(np.float32)
        rays = 1 + 0.22 * np.sin(np.arctan2(dy, dx) * 34 + 5 * self.noise(18)) * (distance > 0.03)
        ring = np.clip(1.25 - 6 * np.clip(distance - 0.055, 0, 1) / 0.3, 0.35, 1.3)
        iris = np.asarray(portrait.iris, dtype=np.float32) * (rays * ring)[..., None]
        self.lay(np.maximum(distance - 0.072, opening), iris, soft=0.012)
        self.lay(np.maximum(distance - 0.031, opening), (14, 11, 10), soft=0.010)
        glint = np.hypot(self.fx - np.float32(x + 0.024 * np.sign(portrait.light)), dy + 0.036)
        self.lay((glint - 0.013).astype(np.float32), (255, 255, 255), soft=0.008)
        within = np.abs(dx) - 0.20
        lashes = np.maximum(np.abs(dy - upper) - 0.011 - 0.05 * np.clip(dx, 0, 1), within).astype(np.float32)
        self.lay(lashes, (30, 20, 18), soft=0.014, opacity=0.92)
        crease = np.maximum(np.abs(dy - upper + 0.055 - 0.6 * dx**2) - 0.006, within).astype(np.float32)
        self.lay(crease, skin * 0.5, soft=0.022, opacity=0.7)

    def brow(self, side: int) -> None:
        dx, dy = (self.fx - np.float32(side * 0.34)) * side, self.y + np.float32(0.335)
        arc = 0.9 * (dx - 0.03) ** 2 - 0.03
        thick = 0.036 - 0.07 * np.clip(dx, 0, 1) + 0.005 * self.noise(40)
        distance = np.maximum(np.abs(dy - arc) - thick, np.abs(dx) - 0.235).astype(np.float32)
        hairs = 1 + 0.3 * np.sin((dx * 2 + dy) * 260)
        colour = np.asarray(self.portrait.hair, dtype=np.float32) * (0.75 * hairs)[..., None]
        self.lay(distance, colour, soft=0.03, opacity=0.85)

    def mouth(self) -> None:
        portrait = self.portrait
        x = self.fx
        bend = portrait.smile * 0.5 * (1 - 2 * (x / np.float32(_MOUTH_X)) ** 2)
        line = (_MOUTH_Y + bend * 0.5 - 0.25 * portrait.smile).astype(np.float32)
        across = np.clip(1 - (x / np.float32(_MOUTH_X)) ** 2, 0, 1)
        bow = 0.075 * across**0.7 - 0.022 * np.exp(-((x / 0.05) ** 2))
        fold = 1 + 0.10 * np.sin(x * 140 + 2 * self.noise(15))
        lips = np.asarray(portrait.lips, dtype=np.float32)
        gap = portrait.open_mouth * 0.13 * across
        inside = np.abs(x) - np.float32(_MOUTH_X)
        upper = np.maximum(np.maximum(line - gap * 0.35 - bow - self.y, self.y - line - 0.005), inside).astype(
            np.float32
        )
        lower = np.maximum(np.maximum(line - self.y, self.y - line - gap * 0.75 - 0.10 * across**0.8), inside).astype(
            np.float32
        )
        self.lay(upper, lips * (0.86 * fold)[..., None], soft=0.022, opacity=0.92)
        shine = 1.05 + 0.35 * np.exp(-(((self.y - line - gap * 0.75 - 0.045) / 0.018) ** 2)) * across
        self.lay(lower, lips * (fold * shine)[..., None], soft=0.026, opacity=0.92)
        if portrait.open_mouth:
            hole = np.maximum(np.maximum(line - gap * 0.35 - self.y, self.y - line - gap * 0.75), inside + 0.02).astype(
                np.float32
            )
            self.lay(hole, (62, 22, 24), soft=0.014)
            teeth = 0.93 + 0.06 * np.cos(x * 100) - 1.1 * np.abs(x) ** 1.5
            bottom = self.y - line - gap * 0.38
            white = np.array([238, 232, 222], dtype=np.float32) * teeth[..., None]
            self.lay(np.maximum(hole + 0.006, bottom).astype(np.float32), white, soft=0.012)
        else:
            seam = np.maximum(np.abs(self.y - line) - 0.007, inside).astype(np.float32)
            self.lay(seam, lips * np.float32(0.38), soft=0.018, opacity=0.9)
        for side in (-1, 1):
            corner = self.ellipse(side * _MOUTH_X, _MOUTH_Y - portrait.smile * 0.5, 0.022, 0.016)
            self.lay(corner, np.asarray(portrait.skin, dtype=np.float32) * np.float32(0.5), soft=0.045, opacity=0.7)

    def hair_in_front(self, strands: Plane) -> None:
        portrait = self.portrait
        hair = np.asarray(portrait.hair, dtype=np.float32) * strands[..., None]
        ragged = 0.022 * self.noise(7) + 0.010 * self.noise(24)
        parting = 0.25 * np.sign(portrait.light)
        hairline = (
            -0.80 + portrait.fringe - 0.10 * np.cos((self.x - parting) * 3.2) + 0.55 * np.abs(self.x) ** 3 + ragged
        )
        cap = np.maximum(self.ellipse(0, -0.26, 0.93, 1.0, feature=False), self.y - hairline).astype(np.float32)
        self.lay(cap + 0.03, (25, 15, 12), soft=0.16, opacity=0.35)  # the hair's shadow on the forehead
        self.lay(cap, hair, soft=0.03)
        if portrait.long_hair:
            inner = 0.72 + 0.05 * np.sin(self.y * 4 + 1) + ragged
            outer = 0.90 + 0.07 * np.clip(self.y, 0, None) + ragged
            locks = np.maximum(np.maximum(inner - np.abs(self.x), np.abs(self.x) - outer), self.y - 1.55 - 3 * ragged)
            self.lay(np.maximum(locks, -0.3 - self.y).astype(np.float32), hair, soft=0.07)

    def glasses(self) -> None:
        frame: Colour = (32, 28, 30)
        for side in (-1, 1):
            dx, dy = (self.fx - np.float32(side * 0.34)) / 0.24, (self.y + np.float32(0.08)) / 0.18
            rim = ((np.abs(dx) ** 3 + np.abs(dy) ** 3) ** np.float32(1 / 3) - 1) * np.float32(0.2)
            self.lay(rim, (235, 240, 245), opacity=0.07)
            self.lay(np.abs(rim) - np.float32(0.014), frame, soft=0.01)
            arm = np.maximum(
                np.abs(self.y + np.float32(0.12)) - 0.014, np.abs(self.fx - np.float32(side * 0.68)) - 0.11
            )
            self.lay(arm.astype(np.float32), frame, soft=0.01)
        bridge = np.maximum(np.abs(self.y + 0.12 - 0.25 * self.fx**2) - 0.013, np.abs(self.fx) - 0.11)
        self.lay(bridge.astype(np.float32), frame, soft=0.01)
