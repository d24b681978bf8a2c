"""The report page: what it says, that nothing can stop or break it, and that it is there whole or not at all."""

import csv
import hashlib
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from datatools.errors import DataError
from datatools.faces.geometry import face_quad
from datatools.pyramid import Provenance, PyramidWriter
from datatools.report import page as report_page
from datatools.report.summary import BuildSummary, DuplicateFiles, StageTime
from datatools.report.write import write_report
from tests.support.webpages import Page

LANDMARKS = np.array([[130, 150], [170, 150], [150, 170], [135, 190], [165, 190]], np.float64)
EVIL = "<b>\"1\" &amp; <script>'2' onload=x .jpg"


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows(rows)


def make_photo(path: Path, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 256, (12, 10, 3), np.uint8)
    PIL.Image.fromarray(values).resize((300, 360), PIL.Image.Resampling.BICUBIC).save(path, format="JPEG")


def make_build(
    root: Path, names: Sequence[str], *, others: Sequence[str] = (), resolution: int = 64, grey: bool = False
) -> BuildSummary:
    """A finished build of small faces: one per name, and photos of others that were not chosen."""
    (root / "photos").mkdir(parents=True)
    photos = {name: root / "photos" / f"{number}.jpg" for number, name in enumerate([*names, *others])}
    for number, path in enumerate(photos.values()):
        make_photo(path, number)
    landmarks = [LANDMARKS + np.array([0, 0 if i % 2 else -100]) for i in range(len(names))]
    with PyramidWriter(
        root / "celebahq.h5", len(names), resolution=resolution, settings={"final_filter": "box"}
    ) as out:
        for i, name in enumerate(names):
            values = np.random.default_rng(i).integers(0, 256, (resolution, resolution, 1 if grey else 3), np.uint8)
            md5 = hashlib.md5(photos[name].read_bytes()).hexdigest()
            place = Provenance(name, md5, 9.0 - i, i, -1, face_quad(landmarks[i]), landmarks[i])
            out.append(np.ascontiguousarray(np.broadcast_to(values, (resolution, resolution, 3))), place)
    ranking: list[list[object]] = [["file_name", "score", "rank", "chosen", "reason"]]
    ranking += [[name, 9.0 - i, i, 1, ""] for i, name in enumerate(names)]
    ranking += [[name, -9.0 - i, len(names) + i, 0, f"beyond {len(names)}"] for i, name in enumerate(others)]
    ranking += [["no-face.jpg", "", "", 0, "face: degenerate landmarks"]]
    write_csv(root / "ranking.csv", ranking)
    write_csv(root / "rejected.csv", [["file_name", "stage", "reason"]])
    return BuildSummary(
        pyramid=root / "celebahq.h5",
        ranking_csv=root / "ranking.csv",
        rejected_csv=root / "rejected.csv",
        photos=photos,
        duplicates=(),
        stages=(StageTime("score", 12.5, 100), StageTime("verify", 0.0, 3)),
        settings={"selection": "score", "count": str(len(names)), "restore": "none"},
        disk_bytes={"celebahq.h5": 123_456, "shards": 0},
    )


@pytest.fixture
def names() -> list[str]:
    return [f"{i:06}.jpg" for i in range(7)]


def written(summary: BuildSummary, folder: Path) -> Page:
    assert write_report(summary, folder) == folder / "index.html"
    page = Page(folder / "index.html")
    for image in page.all("img"):
        assert image["alt"]
        source = folder / urllib.parse.unquote(str(image["src"]))
        if source.suffix == ".jpg":
            with PIL.Image.open(source) as picture:
                assert picture.size == (int(str(image["width"])), int(str(image["height"])))
        else:
            assert source.stat().st_size > 1000
    for link in page.all("a"):
        target = str(link["href"])
        if target.startswith("#"):
            assert f'id="{target[1:]}"' in page.source
        else:
            assert (folder / urllib.parse.unquote(target)).is_file()
    assert page.all("script") == []
    assert "http" not in page.source
    return page


def test_the_page_tells_counts_times_sizes_and_settings(tmp_path: Path, names: list[str]) -> None:
    summary = make_build(tmp_path / "out put", names, others=["x1.jpg", "x2.jpg"])
    rejected = [
        ["file_name", "stage", "reason", "kind"],
        ["a.jpg", "photo", "the file is empty (zero bytes)", "empty-photo"],
    ]
    rejected += [[f"{i}.jpg", "face", f"only {i}% inside", "outside-photo"] for i in range(1234)]
    rejected += [[f"{i}.jpg", "annotation", f"{i} eye distances off", "repaired-landmarks"] for i in range(2)]
    write_csv(summary.rejected_csv, rejected)
    summary = replace(
        summary, duplicates=(DuplicateFiles(names[0], names[3], 5), DuplicateFiles(names[1], "x1.jpg", 17))
    )
    page = written(summary, tmp_path / "out put" / "report")
    for text in (
        "7 faces of 64 x 64 pixels",
        "Of 9 photos with landmarks, 9 gave a face",
        "1,235 entries were rejected. 2 entries have a fault, and are used.",
        "Not rejected: landmarks that differ from a detector's; its own are used 2",
        "Rejected, stage “face” 1,234",
        "face 1,234 the face lies outside of the photo 0.jpg , 1.jpg , 2.jpg , 3.jpg , …",
        "photo 1 the file is empty (zero bytes) a.jpg",
        "2 beyond 7 x1.jpg , x2.jpg",
        "the lowest score that was chosen, 3.0000",
        "All chosen faces : 7 faces, scores 9.0000 to 3.0000, ranks 0 to 6",
        "Best that were not chosen : 2 photos, scores -9.0000 to -10.0000",
        "000000.jpg, 000003.jpg: distance 5",
        "000001.jpg, x1.jpg: distance 17",
        "score 12.5 s 12.50 100 8 0.12 s",
        "verify 0.00 s 0.00 3 - -",
        "64 x 64 86,016 86 kB 75.1 %",
        "celebahq.h5 123,456 123 kB",
        "restore none",
        "final_filter box",
    ):
        assert text in page.text
    assert "no-face.jpg" not in page.text
    assert page.text.count("not in the file 000001.jpg, x1.jpg: distance 17") == 1
    assert page.text.count("(300 x 360 px)") == 6
    assert ", padded" in page.text
    assert ", not padded" in page.text
    assert "could not be made" not in page.text
    assert {link["href"] for link in page.all("a")} >= {"../celebahq.h5", "../ranking.csv", "../rejected.csv"}


@pytest.mark.parametrize("resolution", [4, 256])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_small_builds_with_nothing_rejected(tmp_path: Path, count: int, resolution: int) -> None:
    summary = make_build(tmp_path, ["a.jpg", "b.jpg"][:count], resolution=resolution, grey=True)
    page = written(summary, tmp_path / "report")
    assert "Nothing was rejected." in page.text
    assert "No two photos have faces that look alike." in page.text
    assert "could not be made" not in page.text
    assert f"{count} face{'' if count == 1 else 's'} of {resolution} x {resolution} pixels" in page.text
    assert page.text.count("(300 x 360 px)") == count


def test_more_faces_than_a_sheet_holds_are_shown_as_best_median_and_worst(tmp_path: Path) -> None:
    names = [f"{i:06}.jpg" for i in range(61)]
    page = written(make_build(tmp_path, names, resolution=8), tmp_path / "report")
    assert "Best of the chosen : 16 faces, scores 9.0000 to -6.0000, ranks 0 to 15" in page.text
    assert "Median of the chosen : 16 faces, scores -13.0000 to -28.0000, ranks 22 to 37" in page.text
    assert "Worst of the chosen : 16 faces, scores -36.0000 to -51.0000, ranks 45 to 60" in page.text


def test_names_and_reasons_cannot_become_markup(tmp_path: Path) -> None:
    undecodable = "caf\udce9.jpg"  # a name that is not valid UTF-8 on disk
    summary = make_build(tmp_path, [EVIL, undecodable, "b.jpg"], others=["<i>o<i>.jpg"])
    write_csv(summary.rejected_csv, [["file_name", "stage", "reason"], [EVIL, "<u>", "<img src=x onerror=alert(1)>"]])
    summary = replace(
        summary,
        duplicates=(DuplicateFiles(EVIL, undecodable, 1),),
        stages=(StageTime("<b>", 1, 1),),
        settings={"<b>": "</td>", "count": "3"},
        disk_bytes={"</table>": 1},
    )
    page = written(summary, tmp_path / "report")
    assert page.text.count(" ".join(EVIL.split())) >= 4
    assert "<img src=x onerror=alert(1)>" in page.text
    assert {"b", "u", "i"}.isdisjoint(tag for tag, _ in page.tags)
    assert "onerror" not in [name for _, attributes in page.tags for name in attributes]
    assert "caf?.jpg" in page.text


def test_photos_that_are_gone_or_changed_cost_their_strip_only(tmp_path: Path, names: list[str]) -> None:
    summary = make_build(tmp_path, names, others=["x.jpg"])
    summary.photos[names[0]].unlink()
    summary.photos[names[1]].write_bytes(b"")
    make_photo(summary.photos[names[2]], 99)
    summary.photos["x.jpg"].unlink()
    photos = {name: path for name, path in summary.photos.items() if name != names[3]}
    page = written(replace(summary, photos=photos), tmp_path / "report")
    assert page.text.count("(300 x 360 px)") == 3
    assert f"No strip of {names[0]}: its photo no longer exists" in page.text
    assert "its photo has changed since the build" in page.text
    for path in summary.photos.values():
        path.unlink(missing_ok=True)
    page = written(summary, tmp_path / "report")
    assert page.text.count("No strip of") == 3
    assert "4 other photos gave no strip either" in page.text
    assert "There are no photos to show." in page.text


@pytest.mark.parametrize(
    ("resolution", "message"),
    [
        (64, "First a face of 64 x 64 pixels without"),
        (512, "a part of a face, 256 x 256 of its 512 x 512 pixels as they are, without"),
    ],
)
def test_restoration_is_shown_where_there_was_any(
    tmp_path: Path, names: list[str], resolution: int, message: str
) -> None:
    summary = make_build(tmp_path, names[:4], resolution=resolution)
    page = written(summary, tmp_path / "report")
    assert "Restoration" not in page.text
    restored = replace(summary, settings={**summary.settings, "restore": "<magic>", "final_filter": "box"})
    page = written(restored, tmp_path / "report")
    assert "The photos were restored ( <magic> ) before the faces were cut out." in page.text
    assert message in page.text
    assert "scored as they are without restoration" not in page.text
    assert page.text.count("levels on average") == 4
    pictures = [str(image["src"]) for image in page.all("img") if "art of face" in str(image["alt"])]
    assert len(pictures) == 8
    assert {Path(picture).suffix for picture in pictures} == {".png"}  # without JPEG's own changes
    for path in summary.photos.values():
        path.unlink()
    page = written(restored, tmp_path / "report")
    assert "There are no photos to compare with." in page.text
    assert "1 other photo gave no comparison either" in page.text


@pytest.mark.parametrize("missing", ["celebahq.h5", "ranking.csv", "rejected.csv"])
@pytest.mark.parametrize("damage", ["gone", "garbage"])
def test_a_missing_or_damaged_result_becomes_a_note(
    tmp_path: Path, names: list[str], missing: str, damage: str
) -> None:
    summary = make_build(tmp_path, names, others=["x.jpg"])
    if damage == "gone":
        (tmp_path / missing).unlink()
    else:
        (tmp_path / missing).write_bytes(b"\xff\x00,garbage\n\n")
    page = written(replace(summary, duplicates=(DuplicateFiles(names[0], "x.jpg", 3),)), tmp_path / "report")
    assert "Parts of this report could not be made" in page.text
    note = {"celebahq.h5": "pyramid file", "ranking.csv": "ranking", "rejected.csv": "list of rejected entries"}[
        missing
    ]
    assert f"The {note} could not be" in page.text
    assert "000000.jpg, x.jpg" in page.text
    assert ("All chosen faces" in page.text) == (missing != "celebahq.h5")


def test_a_fault_in_one_section_leaves_the_others(
    tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of ink")

    summary = make_build(tmp_path, names)
    for part in ("contact_sheet", "score_histogram", "make_strip"):
        monkeypatch.setattr(report_page, part, fail)
    page = written(summary, tmp_path / "report")
    assert page.text.count("out of ink") == 2 + 3
    assert "There are no scores to show." in page.text
    assert "7 faces of 64 x 64 pixels" in page.text


def test_a_new_report_replaces_the_old_one_whole(tmp_path: Path, names: list[str]) -> None:
    first = make_build(tmp_path / "a", names)
    second = make_build(tmp_path / "b", names[:1])
    written(first, tmp_path / "report")
    assert len(list((tmp_path / "report" / "pictures").iterdir())) == 19
    page = written(second, tmp_path / "report")
    assert "1 face of" in page.text
    assert len(list((tmp_path / "report" / "pictures").iterdir())) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "report"]


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(report_page, "_strips", interrupt)
        yield


@pytest.mark.usefixtures("interrupted")
def test_an_interrupted_report_leaves_the_old_one_and_no_rubbish(tmp_path: Path, names: list[str]) -> None:
    summary = make_build(tmp_path / "out", names)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text('<meta name="generator" content="CelebA-HQ build report">old')
    with pytest.raises(KeyboardInterrupt):
        write_report(summary, tmp_path / "report")
    assert (tmp_path / "report" / "index.html").read_text().endswith("old")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "report"]


def test_what_a_killed_run_left_is_cleared_away(tmp_path: Path, names: list[str]) -> None:
    summary = make_build(tmp_path / "out", names)
    written(summary, tmp_path / "report")
    # Killed in the middle of writing, and (another time) between the two renames of the swap.
    (tmp_path / ".report.partial" / "pictures").mkdir(parents=True)
    (tmp_path / ".report.partial" / "pictures" / "old.jpg").touch()
    (tmp_path / "report").rename(tmp_path / ".report.previous")
    written(summary, tmp_path / "report")
    assert not (tmp_path / "report" / "pictures" / "old.jpg").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "report"]
    # Killed after them, before the old report was removed.
    (tmp_path / ".report.previous").mkdir()
    written(summary, tmp_path / "report")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "report"]


def test_a_folder_that_is_no_report_is_never_replaced(tmp_path: Path, names: list[str]) -> None:
    summary = make_build(tmp_path / "out", names)
    with pytest.raises(DataError, match="is not an earlier report"):
        write_report(summary, tmp_path / "out")
    assert (tmp_path / "out" / "celebahq.h5").is_file()
    (tmp_path / "empty").mkdir()
    written(summary, tmp_path / "empty")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is not an earlier report"):
        write_report(summary, tmp_path / "file")


def test_fewer_faces_than_asked_for_are_pointed_out(tmp_path: Path, names: list[str]) -> None:
    summary = make_build(tmp_path, names)
    few = written(replace(summary, settings={"selection": "score", "count": "30,000"}), tmp_path / "report")
    assert "30,000 faces were requested, but only 7 could be chosen." in few.text
    everything = written(replace(summary, settings={"selection": "all", "count": "30000"}), tmp_path / "report")
    assert "were requested" not in everything.text
    assert "all of them were chosen" in everything.text


def test_settings_without_effect_say_so(tmp_path: Path, names: list[str]) -> None:
    summary = make_build(tmp_path, names[:2])
    given = {"selection": "all", "count": "30000", "restore": "none", "super_resolution": "always", "order": "auto"}
    given |= {"exclude": "", "excluded": "0", "excluded_digest": ""}
    page = written(replace(summary, settings=given), tmp_path / "report")
    assert "30000" not in page.text
    assert "always" not in page.text
    for text in (
        "count no effect with selection all",
        "super_resolution no effect with restore none",
        "order rank (auto)",
        "exclude none",
    ):
        assert text in page.text
    given |= {"selection": "official", "restore": "bundled", "exclude": "mine.txt", "excluded_digest": "0123"}
    page = written(replace(summary, settings=given), tmp_path / "report")
    for text in ("count 30000", "super_resolution always", "order official (auto)", "exclude mine.txt", "digest 0123"):
        assert text in page.text
    assert "no effect" not in page.text
    page = written(replace(summary, settings=given | {"score_on": "original"}), tmp_path / "report")
    assert "Faces were scored as they are without restoration." in page.text


def test_the_report_counts_itself(tmp_path: Path, names: list[str]) -> None:
    summary = make_build(tmp_path, names)
    page = written(summary, tmp_path / "report")
    own = sum(path.stat().st_size for path in (tmp_path / "report").rglob("*") if path.is_file())
    assert f"report/ {own:,} " in page.text
    assert f"Total {own + 123_456:,} " in page.text


def test_one_of_each_is_worded_as_one(tmp_path: Path) -> None:
    summary = make_build(tmp_path, ["a.jpg"], others=["b.jpg"])
    write_csv(summary.rejected_csv, [["file_name", "stage", "reason"], ["c.jpg", "photo", "empty"]])
    pair = (DuplicateFiles("a.jpg", "b.jpg", 3),)
    page = written(replace(summary, duplicates=pair), tmp_path / "report")
    for text in (
        "This build wrote 1 face of 64 x 64",
        "Of 2 photos with landmarks, 2 gave a face with a quality score; the best by that score was chosen.",
        "One entry was rejected. One pair of photos looks like a duplicate.",
        "Best that were not chosen : 1 photo, score -9.0000. This is the photo; its face is in no file.",
        "1 pair of photos whose faces look alike.",
    ):
        assert text in page.text
    assert "build report: 1 face" in page.source
    words = f"{page.text} {' '.join(str(image['alt']) for image in page.all('img'))}"
    assert re.findall(r"\b1 (?:photos|faces|entries|pairs|images|scores)\b", words) == []


def test_faces_that_were_left_out_are_not_called_chosen(tmp_path: Path, names: list[str]) -> None:
    summary = make_build(tmp_path, names, others=["twin.jpg"])
    page = written(replace(summary, settings={"selection": "all"}), tmp_path / "report")
    assert "8 gave a face with a quality score." in page.text
    assert "all of them were chosen" not in page.text


def test_scores_of_many_magnitudes(tmp_path: Path, names: list[str]) -> None:
    summary = make_build(tmp_path, names)
    scores = [5.4, 0.5442, 0.02, 0.01, 0.004, 0.001, 4.173e-06]
    rows = [[name, f"{score:.9f}", i, 1, ""] for i, (name, score) in enumerate(zip(names, scores, strict=True))]
    write_csv(summary.ranking_csv, [["file_name", "score", "rank", "chosen", "reason"], *rows])
    page = written(summary, tmp_path / "report")
    assert "The axis is logarithmic; 1 score below 0.0001 is counted in the first bar." in page.text
    assert "Lowest < 0.0001" in page.text
    assert "Highest 5.4000" in page.text
    assert "e-0" not in page.text
