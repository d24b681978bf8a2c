"""celeba: every good entry becomes a record, every bad one a rejection with a reason; nothing is lost."""

import dataclasses
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datatools.errors import DataError
from datatools.faces.geometry import FrameError, face_frame
from datatools.sources.celeba import CelebATree, check_sizes, read_tree
from datatools.sources.records import FaceRecord, Rejection, RejectionKind
from tests.faults.pictures import encode
from tests.faults.trees import ATTRIBUTES, LANDMARKS, landmark_row, write_tree

NAMES = [f"{number:06d}.jpg" for number in (1, 2, 3, 4, 5, 615)]
PHOTOS = dict.fromkeys(NAMES, b"never opened")


def spoil(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def only_rejection(tree: CelebATree) -> Rejection:
    assert len(tree.rejections) == 1, tree.rejections
    return tree.rejections[0]


@pytest.mark.parametrize(
    "shape", [("Img", "Anno", "Eval"), ("", "Anno", "Eval"), ("", "", ""), ("Img", "Anno", "Anno")]
)
def test_official_shapes_of_the_tree(tmp_path: Path, shape: tuple[str, str, str]) -> None:
    tree = read_tree(write_tree(tmp_path, PHOTOS, shape=shape))
    assert tree.rejections == ()
    assert tree.image_dir == tmp_path / shape[0] / "img_celeba"
    assert tree.attribute_names == ATTRIBUTES
    assert [record.file_name for record in tree.records] == NAMES
    assert [record.identity for record in tree.records] == [100, 101, 102, 103, 104, 105]
    assert [record.split for record in tree.records] == [0, 1, 2, 0, 1, 2]
    record = tree.records[1]
    assert record.path == tree.image_dir / "000002.jpg"
    assert record.attributes == (1, -1, 1)
    assert record.landmarks.dtype == np.float64
    assert record.landmarks.tolist() == [[30, 40], [60, 41], [46, 55], [33, 70], [58, 71]]


def test_published_index_goes_by_file_name(tmp_path: Path) -> None:
    indices = {record.file_name: record.celebahq_index for record in read_tree(write_tree(tmp_path, PHOTOS)).records}
    assert indices == dict.fromkeys(NAMES, -1) | {"000004.jpg": 5212, "000615.jpg": 5}


def test_optional_files_may_be_missing(tmp_path: Path) -> None:
    write_tree(tmp_path, PHOTOS)
    for name in ("Anno/list_attr_celeba.txt", "Anno/identity_CelebA.txt", "Eval/list_eval_partition.txt"):
        (tmp_path / name).unlink()
    tree = read_tree(tmp_path)
    assert tree.rejections == ()
    assert tree.attribute_names == ()
    assert {(record.attributes, record.identity, record.split) for record in tree.records} == {(None, None, None)}


def test_optional_files_may_cover_some_photos_and_others(tmp_path: Path) -> None:
    write_tree(tmp_path, PHOTOS)
    (tmp_path / "Anno/list_attr_celeba.txt").write_text("2\nSmiling\n000003.jpg 1\n777777.jpg -1\n")
    (tmp_path / "Anno/identity_CelebA.txt").write_text("000001.jpg 7\n777777.jpg 8\n")
    tree = read_tree(tmp_path)
    assert tree.rejections == ()
    assert [record.attributes for record in tree.records] == [None, None, (1,), None, None, None]
    assert [record.identity for record in tree.records] == [7, None, None, None, None, None]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("000003.jpg 1 2 3", "10 numbers, found 3"),
        ("000003.jpg", "10 numbers, found 0"),
        (landmark_row("000003.jpg", range(11)), "10 numbers, found 11"),
        (landmark_row("000003.jpg", [*range(9), "x"]), "10 numbers"),
        (landmark_row("000003.jpg", [*range(9), "1_0"]), "10 numbers"),
        (landmark_row("000003.jpg", [*range(9), "nan"]), "not finite"),
        (landmark_row("000003.jpg", ["inf", "-inf", *range(8)]), "not finite"),
        (landmark_row("000003.jpg", [*range(9), "1e999"]), "not finite"),
        ("000003.jpg \ufffd\x00\x1c 1 2", "10 numbers"),
    ],
)
def test_mangled_line(tmp_path: Path, row: str, reason: str) -> None:
    rows = [row if name == "000003.jpg" else landmark_row(name) for name in NAMES]
    tree = read_tree(write_tree(tmp_path, PHOTOS, rows=rows))
    rejection = only_rejection(tree)
    assert (rejection.file_name, rejection.stage) == ("000003.jpg", "annotation")
    assert "list_landmarks_celeba.txt, line 5: " in rejection.detail
    assert reason in rejection.detail
    assert "\n" not in rejection.detail
    assert [record.file_name for record in tree.records] == [name for name in NAMES if name != "000003.jpg"]


def test_line_without_a_name(tmp_path: Path) -> None:
    rows = [landmark_row(name) for name in NAMES]
    tree = read_tree(write_tree(tmp_path, PHOTOS, rows=[*rows[:2], "", *rows[2:]]))
    assert only_rejection(tree).detail == "list_landmarks_celeba.txt, line 5: the line is empty"
    assert len(tree.records) == len(NAMES)


def test_row_without_file_and_file_without_row(tmp_path: Path) -> None:
    rows = [landmark_row(name) for name in [*NAMES[1:], "000700.jpg"]]
    tree = read_tree(write_tree(tmp_path, PHOTOS, rows=rows))
    assert tree.rejections == (
        Rejection(RejectionKind.NO_FILE, "000700.jpg", "no such file in img_celeba"),
        Rejection(RejectionKind.NO_ROW, "000001.jpg", "no row in list_landmarks_celeba.txt"),
    )
    assert [record.file_name for record in tree.records] == NAMES[1:]


def test_folders_are_no_photos_and_hidden_files_are_none_of_ours(tmp_path: Path) -> None:
    write_tree(tmp_path, PHOTOS)
    image_dir = tmp_path / "Img/img_celeba"
    (image_dir / "000002.jpg").unlink()
    (image_dir / "000002.jpg").mkdir()
    (image_dir / ".DS_Store").write_bytes(b"")
    (image_dir / "Thumbs.db").write_bytes(b"")
    (image_dir / "000003.jpg").unlink()
    (image_dir / "000003.jpg").symlink_to(image_dir / "gone.jpg")
    (image_dir / "000005.jpg").unlink()
    (image_dir / "000005.jpg").symlink_to(image_dir / "000005.jpg")
    (image_dir / "000004.jpg").unlink()
    (image_dir / "000004.jpg").symlink_to(image_dir / "000001.jpg")
    tree = read_tree(tmp_path)
    assert [rejection.file_name for rejection in tree.rejections] == ["000002.jpg", "000003.jpg", "000005.jpg"]
    assert "000004.jpg" in [record.file_name for record in tree.records]


def test_second_row_for_a_file_is_rejected_and_the_first_used(tmp_path: Path) -> None:
    rows = [*(landmark_row(name) for name in NAMES), landmark_row("000002.jpg", range(10))]
    tree = read_tree(write_tree(tmp_path, PHOTOS, rows=rows))
    rejection = only_rejection(tree)
    assert rejection.file_name == "000002.jpg"
    assert "line 9: second row for this file; line 4 is used" in rejection.detail
    assert tree.records[1].landmarks[0].tolist() == [30, 40]


@pytest.mark.parametrize("name", ["../000001.jpg", "/etc/passwd", "sub/000001.jpg", "..", "a\\b.jpg"])
def test_names_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "Img").mkdir()
    (tmp_path / "Img" / "000001.jpg").write_bytes(b"outside")
    tree = read_tree(write_tree(tmp_path, PHOTOS, rows=[*(landmark_row(n) for n in NAMES), landmark_row(name)]))
    rejection = only_rejection(tree)
    assert "is not a plain file name" in rejection.detail
    assert rejection.file_name == "list_landmarks_celeba.txt"
    assert all(record.path.parent == tree.image_dir for record in tree.records)


def test_more_rows_than_promised_are_used(tmp_path: Path) -> None:
    tree = read_tree(write_tree(tmp_path, PHOTOS, count=2))
    assert tree.rejections == ()
    assert len(tree.records) == 6


def test_fewer_rows_than_promised_are_reported(tmp_path: Path) -> None:
    tree = read_tree(write_tree(tmp_path, PHOTOS, count=202599))
    assert only_rejection(tree).detail.endswith(
        "line 1: 202599 rows are promised, 6 are there; the file may be cut off"
    )
    assert len(tree.records) == 6


def test_windows_line_ends_byte_order_mark_and_foreign_bytes(tmp_path: Path) -> None:
    write_tree(tmp_path, PHOTOS)
    path = tmp_path / "Anno/list_landmarks_celeba.txt"
    data = path.read_bytes().replace(b"\n", b"\r\n").replace(b"000003.jpg", b"\xff\xfe.jpg")
    path.write_bytes(b"\xef\xbb\xbf" + data)
    tree = read_tree(tmp_path)
    assert len(tree.records) == 5
    assert {rejection.stage for rejection in tree.rejections} == {"photo", "annotation"}
    assert tree.rejections[1].file_name == "000003.jpg"


@pytest.mark.parametrize(
    ("file", "old", "new", "field"),
    [
        ("Anno/list_attr_celeba.txt", "000002.jpg 1 -1 1", "000002.jpg 1 -1", "attributes"),
        ("Anno/list_attr_celeba.txt", "000002.jpg 1 -1 1", "000002.jpg 1 -1 2", "attributes"),
        ("Anno/identity_CelebA.txt", "000002.jpg 101", "000002.jpg", "identity"),
        ("Anno/identity_CelebA.txt", "000002.jpg 101", "000002.jpg -101", "identity"),
        ("Eval/list_eval_partition.txt", "000002.jpg 1", "000002.jpg 3", "split"),
    ],
)
def test_bad_line_of_an_optional_file_costs_that_annotation_alone(
    tmp_path: Path, file: str, old: str, new: str, field: str
) -> None:
    write_tree(tmp_path, PHOTOS)
    whole = read_tree(tmp_path).records[1]
    spoil(tmp_path / file, old, new)
    tree = read_tree(tmp_path)
    rejection = only_rejection(tree)
    assert rejection.file_name == "000002.jpg"
    assert Path(file).name in rejection.detail
    changed = {
        name.name
        for name in dataclasses.fields(whole)
        if not np.array_equal(getattr(whole, name.name), getattr(tree.records[1], name.name))
    }
    assert changed == {field}


def test_file_without_row_is_reported_even_when_other_files_mention_it(tmp_path: Path) -> None:
    write_tree(tmp_path, PHOTOS, rows=[landmark_row(name) for name in NAMES[1:]])
    spoil(tmp_path / "Anno/identity_CelebA.txt", "000001.jpg 100", "000001.jpg x")
    (rejection,) = read_tree(tmp_path).rejections
    assert rejection.file_name == "000001.jpg"
    assert rejection.detail == "no row in list_landmarks_celeba.txt"


def test_photos_that_only_an_optional_file_knows_are_ignored(tmp_path: Path) -> None:
    write_tree(tmp_path, PHOTOS)
    with (tmp_path / "Anno/identity_CelebA.txt").open("a") as stream:
        stream.write("999999.jpg x\n")
    assert read_tree(tmp_path).rejections == ()


def test_missing_parts_are_named_with_every_place_and_the_way_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_tree(tmp_path)
    message = str(caught.value)
    for place in ("img_celeba", "Img/img_celeba", "Anno/list_landmarks_celeba.txt", "list_landmarks_celeba.txt"):
        assert str(tmp_path / place) in message
    for word in ("mmlab.ie.cuhk.edu.hk", "non-commercial research", "img_celeba.7z.001", "Anno"):
        assert word in message
    assert "\n" not in message

    with pytest.raises(DataError, match="no folder"):
        read_tree(tmp_path / "none")


def test_archives_that_wait_to_be_unpacked_are_pointed_out(tmp_path: Path) -> None:
    write_tree(tmp_path, PHOTOS)
    (tmp_path / "Img/img_celeba").rename(tmp_path / "elsewhere")
    (tmp_path / "Img/img_celeba.7z.001").write_bytes(b"")
    with pytest.raises(DataError, match=r"img_celeba\.7z\.001 waits to be unpacked"):
        read_tree(tmp_path)


def test_missing_landmarks_alone(tmp_path: Path) -> None:
    write_tree(tmp_path, PHOTOS)
    (tmp_path / "Anno/list_landmarks_celeba.txt").rename(tmp_path / "Anno/list_landmarks_align_celeba.txt")
    with pytest.raises(DataError, match=r"found no landmarks .*list_landmarks_align_celeba\.txt\) cannot be used"):
        read_tree(tmp_path)


def test_empty_photo_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no photos in"):
        read_tree(write_tree(tmp_path, {}))


@pytest.mark.parametrize("text", ["", "image_id,lefteye_x\n000001.jpg,1\n", "6", "-1\nnames\n", "\x00\x01\x02\n\n"])
def test_landmark_files_of_another_format(tmp_path: Path, text: str) -> None:
    write_tree(tmp_path, PHOTOS)
    (tmp_path / "Anno/list_landmarks_celeba.txt").write_text(text)
    with pytest.raises(DataError, match="not in CelebA's format"):
        read_tree(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX paths")
def test_annotation_files_that_cannot_be_read(tmp_path: Path) -> None:
    write_tree(tmp_path, PHOTOS)
    (tmp_path / "Anno/list_landmarks_celeba.txt").unlink()
    (tmp_path / "Anno/list_landmarks_celeba.txt").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        read_tree(tmp_path)


def test_records_travel_to_other_processes(tmp_path: Path) -> None:
    record = read_tree(write_tree(tmp_path, PHOTOS)).records[3]
    data = pickle.dumps(record)
    assert len(data) < 2000
    np.testing.assert_array_equal(pickle.loads(data).landmarks, record.landmarks)


@settings(deadline=None, max_examples=80)
@given(damage=st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=4)), min_size=1, max_size=5))
def test_every_photo_ends_as_a_record_or_a_rejection(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, bytes]]
) -> None:
    root = write_tree(tmp_path_factory.mktemp("damage"), PHOTOS)
    for file in ("Anno/list_landmarks_celeba.txt", "Anno/list_attr_celeba.txt", "Eval/list_eval_partition.txt"):
        data = bytearray((root / file).read_bytes())
        for place, junk in damage:
            place %= len(data)
            data[place : place + len(junk)] = junk
        (root / file).write_bytes(data)
    try:
        tree = read_tree(root)
    except DataError as error:
        reason = str(error)
    else:
        reason = "CelebA's format"
        named = {entry.file_name for entry in (*tree.records, *tree.rejections)}
        assert named.union(record.photo for record in tree.records) >= set(NAMES)  # damage may change the case
    assert "CelebA's format" in reason


def test_real_sample(sample_data: Path) -> None:
    tree = read_tree(sample_data / "celeba_sample")
    assert tree.rejections == ()
    assert len(tree.records) == 212
    assert len(tree.attribute_names) == 40
    assert tree.attribute_names[31] == "Smiling"
    assert sum(record.attributes is not None for record in tree.records) == 34
    assert all(record.identity is not None and record.split is not None for record in tree.records)
    lines = (sample_data / "celeba_sample/membership.csv").read_text().splitlines()[1:]
    members = {line.split(",")[0]: int(line.split(",")[2]) for line in lines}
    assert {record.file_name: record.celebahq_index for record in tree.records} == members
    first = tree.records[0]
    assert (first.file_name, first.identity, first.split) == ("000001.jpg", 2880, 0)
    assert first.landmarks.tolist() == [[165, 184], [244, 176], [196, 249], [194, 271], [266, 260]]
    assert first.attributes is not None
    assert first.attributes[tree.attribute_names.index("Smiling")] == 1


BOX_HEADING = "image_id x_1 y_1 width height"
LANDMARKS_HEADING = (
    "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
)


@pytest.mark.parametrize("heading", [BOX_HEADING, LANDMARKS_HEADING])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("95 71 226 313", r"its rows have 4 values \(as in list_bbox_celeba.txt, the bounding boxes\)"),
        ("1 -1 " * 20, r"its rows have 40 values \(as in list_attr_celeba.txt, the attributes\)"),
        ("2880", r"its rows have 1 value \(as in identity_CelebA.txt"),
        ("1 2 3 4 5 6 7 8", "its rows have 8 values, five landmarks have 10"),
    ],
)
@pytest.mark.parametrize("count", [1, 6])
def test_another_file_under_the_name_of_the_landmarks(
    values: str, expected: str, heading: str, count: int, tmp_path: Path
) -> None:
    write_tree(tmp_path, PHOTOS)
    rows = "".join(f"{name} {values}\n" for name in NAMES[:count])
    (tmp_path / "Anno/list_landmarks_celeba.txt").write_text(f"{count}\n{heading}\n{rows}")
    with pytest.raises(DataError, match=expected) as caught:
        read_tree(tmp_path)
    assert "\n" not in str(caught.value)


def test_columns_in_another_order(tmp_path: Path) -> None:
    write_tree(tmp_path, PHOTOS)
    path = tmp_path / "Anno/list_landmarks_celeba.txt"
    columns = LANDMARKS_HEADING.split()
    path.write_text("\n".join(["6", " ".join(columns[2:4] + columns[:2] + columns[4:]), *map(landmark_row, NAMES)]))
    with pytest.raises(DataError, match="its columns in the order righteye_x righteye_y lefteye_x"):
        read_tree(tmp_path)
    path.write_text("\n".join(["6", "image_id " + LANDMARKS_HEADING, *map(landmark_row, NAMES)]))
    assert len(read_tree(tmp_path).records) == 6


def test_a_comma_separated_table(tmp_path: Path) -> None:
    write_tree(tmp_path, PHOTOS)
    (tmp_path / "Anno/list_landmarks_celeba.txt").write_text("image_id,lefteye_x\n000001.jpg,69\n")
    with pytest.raises(DataError, match="it is a comma-separated table, as of the aligned images"):
        read_tree(tmp_path)


def test_a_download_that_gave_a_web_page(tmp_path: Path) -> None:
    write_tree(tmp_path, PHOTOS)
    (tmp_path / "Anno/list_landmarks_celeba.txt").write_text("<!DOCTYPE html>\n<title>Quota exceeded</title>\n")
    with pytest.raises(DataError, match="it is a web page, not the file itself: download it again"):
        read_tree(tmp_path)


def test_another_encoding(tmp_path: Path) -> None:
    write_tree(tmp_path, PHOTOS)
    for name in ("Anno/list_landmarks_celeba.txt", "Anno/identity_CelebA.txt"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text, encoding="utf-16")
        with pytest.raises(DataError, match=rf"{Path(name).name} is UTF-16; save it as UTF-8"):
            read_tree(tmp_path)
        (tmp_path / name).write_bytes(text.replace("\n", "\r").encode("utf-8-sig"))
        assert len(read_tree(tmp_path).records) == 6


ALIGNED = (69, 109, 106, 113, 77, 142, 73, 152, 108, 154)
EXCHANGED = (60, 41, 30, 40, 46, 55, 33, 70, 58, 71)


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (ALIGNED, "holds the landmarks of the aligned pictures"),
        (EXCHANGED, "seems to have left and right eye exchanged"),
        ([value / 200 for value in ALIGNED], "holds fractions"),
    ],
)
def test_landmarks_of_another_meaning(values: tuple[float, ...], expected: str, count: int, tmp_path: Path) -> None:
    names = NAMES[:count]
    write_tree(tmp_path, dict.fromkeys(names, b""), rows=[landmark_row(name, values) for name in names])
    with pytest.raises(DataError) as caught:
        read_tree(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'Anno/list_landmarks_celeba.txt'} {expected}")
    assert "CelebA (for non-commercial research only) is at " in str(caught.value)


def test_one_row_of_another_meaning_is_left_to_the_build(tmp_path: Path) -> None:
    rows = [landmark_row(name, EXCHANGED if name == "000002.jpg" else LANDMARKS) for name in NAMES]
    tree = read_tree(write_tree(tmp_path, PHOTOS, rows=rows))
    assert len(tree.records) == 6
    with pytest.raises(FrameError, match="left and right eye seem to be exchanged"):
        face_frame(tree.records[1].landmarks, 200, 200)
    assert face_frame(tree.records[0].landmarks, 200, 200).side > 0
    with pytest.raises(FrameError, match="eyes or mouth lie far outside of the 200 x 45 photo"):
        face_frame(tree.records[0].landmarks, 200, 45)


def test_entries_that_are_no_files_to_read_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["good.jpg", "locked.jpg", "loop.jpg", "dangling.jpg", "pipe.jpg", "device.jpg", "folder.jpg", "self.jpg"]
    write_tree(tmp_path, {}, rows=[landmark_row(name, LANDMARKS) for name in names])
    folder = tmp_path / "Img" / "img_celeba"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names[:2]:
        (folder / name).write_bytes(b"photo")
    for name, target in {"loop": "loop.jpg", "dangling": "nowhere", "device": "/dev/zero", "self": "."}.items():
        (folder / f"{name}.jpg").symlink_to(target)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "folder.jpg").mkdir()
    access = os.access  # root may read everything
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked.jpg" and access(path, mode))
    tree = read_tree(tmp_path)
    assert [record.file_name for record in tree.records] == ["good.jpg"]
    assert {rejection.file_name: rejection.detail for rejection in tree.rejections} == {
        "locked.jpg": "may not be read: permission denied",
        "loop.jpg": "a link that leads nowhere, or to itself",
        "dangling.jpg": "a link that leads nowhere, or to itself",
        "pipe.jpg": "no regular file",
        "device.jpg": "no regular file",
        "folder.jpg": "a folder, no photo",
        "self.jpg": "a folder, no photo",
    }
    assert tree.missing == ()


def scaled(records: tuple[FaceRecord, ...], factor: float) -> list[FaceRecord]:
    return [dataclasses.replace(record, landmarks=record.landmarks * factor) for record in records]


def test_landmarks_of_real_photos_at_another_size(sample_data: Path) -> None:
    records = read_tree(sample_data / "celeba_sample").records
    assert len(records) > 200
    for start in range(0, 200, 8):
        few = records[start : start + 8]
        check_sizes(few)
        for factor in (0.5, 0.25):
            with pytest.raises(DataError, match=r"all 8 photos looked at lie in the first \d+% of width and height"):
                check_sizes(scaled(few, factor))
        for factor in (2, 4):
            with pytest.raises(DataError, match=r"reach to .* pixels, and so for [4-8] of 8 looked at"):
                check_sizes(scaled(few, factor))
    check_sizes(scaled(records[:7], 0.5))  # too few to tell: the faces may all be in the upper left


def test_half_of_the_photos_show_landmarks_of_another_size(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(encode(np.zeros((100, 100, 3), np.uint8), "PNG"))
    face = np.array(LANDMARKS, dtype=float).reshape(5, 2)

    def records(large: int, count: int) -> list[FaceRecord]:
        return [
            FaceRecord("photo.png", tmp_path, "photo.png", face * (1.5 if row < large else 1)) for row in range(count)
        ]

    check_sizes(records(3, 8))
    check_sizes(records(4, 7))  # a little outside: for few photos, only far outside counts
    with pytest.raises(DataError, match=r"reach to \(90, 106.5\), .* has 100 x 100 pixels, and so for 4 of 8"):
        check_sizes(records(4, 8))


ANNOTATIONS = ["Anno/list_landmarks_celeba.txt", "Anno/list_attr_celeba.txt", "Eval/list_eval_partition.txt"]


@pytest.mark.parametrize("target", ["gone.txt", "itself"])
@pytest.mark.parametrize("name", ANNOTATIONS)
def test_annotation_files_that_are_broken_links(name: str, target: str, tmp_path: Path) -> None:
    path = write_tree(tmp_path, PHOTOS) / name
    good = path.rename(tmp_path / "kept")
    path.symlink_to(path.name if target == "itself" else target)
    with pytest.raises(DataError) as caught:
        read_tree(tmp_path)
    assert str(caught.value) == f"{path} is a link that leads nowhere, or to itself"
    good.rename(tmp_path / path.name)
    assert len(read_tree(tmp_path).records) == 6  # the file in another place is used


@pytest.mark.parametrize(("name", "part"), [("Img/img_celeba", "photos"), ("Img", "photos"), ("Anno", "landmarks")])
def test_folders_that_are_broken_links(name: str, part: str, tmp_path: Path) -> None:
    path = write_tree(tmp_path, PHOTOS) / name
    shutil.rmtree(path)
    path.symlink_to("gone")
    with pytest.raises(DataError, match=rf"^found no {part} .*; {path} is a link that leads nowhere, or to itself; "):
        read_tree(tmp_path)
