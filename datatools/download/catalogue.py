"""Where the data sets are, under which terms, and what is known of their files.

Sizes and checksums are those that public programs for these data sets publish and check (torchvision and others), and
those on the pages of the data sets. None: unknown.
"""

from dataclasses import dataclass
from urllib.parse import quote

from datatools.errors import DataError

CELEBA_PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
CELEBA_DRIVE = (
    "https://drive.google.com/drive/folders/0B7EVK8r0v71pWEZsZE9oNnFzTm8?resourcekey=0-5BR16BdXnb8hVj6CNHKzLg"
)
CELEBA_TERMS = (
    "for non-commercial research purposes only. You agree not to publish or pass on any part of it, nor to sell or "
    "exploit it or what is derived from it; the images are not its authors' property. The agreement is on its page"
)
CELEBA_PHOTOS = 202_599

LSUN_SCENES = [
    "bedroom",
    "bridge",
    "church_outdoor",
    "classroom",
    "conference_room",
    "dining_room",
    "kitchen",
    "living_room",
    "restaurant",
    "tower",
]
LSUN_OBJECTS = [
    "airplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "dining_table",
    "dog",
    "horse",
    "motorbike",
    "person",
    "potted_plant",
    "sheep",
    "sofa",
    "train",
    "tv-monitor",
]


@dataclass(frozen=True)
class RemoteFile:
    """A file of a data set.

    Attributes:
        path: where it goes, below the data set's folder.
        url: where it is.
        size: in bytes; None where it is not known.
        checksum: "md5:..." or "sha1:..." in hexadecimal digits; "" where none is known.
    """

    path: str
    url: str
    size: int | None = None
    checksum: str = ""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Archive:
    """An archive that is unpacked after the download.

    Attributes:
        path: its file, or the first of its parts, below the data set's folder.
        target: the folder, below that of the data set, into which it is unpacked.
        makes: what it contains, below `target`; unpacked already where that exists.
    """

    path: str
    target: str
    makes: str


@dataclass(frozen=True)
class DataSet:
    """A data set, or a part of one, that `python -m datatools.download NAME` gets.

    Attributes:
        name: on the command line.
        title: what it is.
        size: of the download, roughly, for people.
        page: its page, for people.
        manual: the page where a browser gets its files.
        terms: under which it may be used.
        consent: whether the user has to agree to the terms first.
        files: in the order of the download.
        archives: what is unpacked.
        use: the command for which it is.
        on_request: what only the authors give away.
    """

    name: str
    title: str
    size: str
    page: str
    manual: str
    terms: str
    consent: bool
    files: tuple[RemoteFile, ...]
    archives: tuple[Archive, ...]
    use: str
    on_request: str = ""


def _drive(file_id: str) -> str:
    """Return the address of a file on Google Drive; `confirm` skips the page that says it was not scanned."""
    return f"https://drive.usercontent.google.com/download?id={quote(file_id)}&export=download&confirm=t"


_WILD_PARTS = (
    ("0B7EVK8r0v71pQy1YUGtHeUM2dUE", "8591a74c4b5bc8d31f975c869807cbff8ccd1541"),
    ("0B7EVK8r0v71peFphOHpxODd5SjQ", "ecc1e0e0c6fd19959ba045d4b1dc0cd621541a2f"),
    ("0B7EVK8r0v71pMk5FeXRlOXcxVVU", "cf6d8ba274401fbfb471199dae2786184948a74c"),
    ("0B7EVK8r0v71peXc4WldxZGFUbk0", "2a08f012cfbce90bebf3f4422b52232c4bef98d5"),
    ("0B7EVK8r0v71pMktaV1hjZUJhLWM", "bcdb8fad2bae91b610e61bde643e5e442d36450d"),
    ("0B7EVK8r0v71pbWFfbGRDOVZxOUU", "da36d7bdc8b0da1568662705c6f8c6b85f0e247e"),
    ("0B7EVK8r0v71pQlZrOENSOUhkQ3c", "27977d05b152bbd243785b25c159c62689f01ad1"),
    ("0B7EVK8r0v71pLVltX2F6dzVwT0E", "dc266301ba41c32b33de06bde863995b99276841"),
    ("0B7EVK8r0v71pVlg5SmtLa1ZiU0k", "c59ac24d21151437f5bb851745c5369bbf22cb6c"),
    ("0B7EVK8r0v71pa09rcFF4THRmSFU", "858dbb3befc78a664ac51115d86d4199712038a3"),
    ("0B7EVK8r0v71pNU9BZVBEMF9KN28", "feadf47f96e0e5000c21c9959bd497b8247c90bb"),
    ("0B7EVK8r0v71pTVd3R2NpQ0FHaGM", "d54c4c02a1789d7ade90cc42a0525680f926f6ca"),
    ("0B7EVK8r0v71paXBad2lfSzlzSlk", "ab337954da2e7940fcf18b2b957e03601891f843"),
    ("0B7EVK8r0v71pcTFwT1VFZzkzZk0", "cb6c97189beb560c7d777960cfd511505e8b8af0"),
)
"""Google Drive's id and SHA-1 of img_celeba.7z.001 to .014."""

_ALIGNED_PNG_PARTS = [
    "0B7EVK8r0v71pSVd0ZjQ3Sks2dzg",
    "0B7EVK8r0v71pR2NwRnU2cVZ2RTg",
    "0B7EVK8r0v71peUlHSDVhd0JTamM",
    "0B7EVK8r0v71pVmYwbmRtV2hZcDA",
    "0B7EVK8r0v71pVjRlNVB3cDVjaDQ",
    "0B7EVK8r0v71pa3NIcEgtTXZrM0U",
    "0B7EVK8r0v71pNE5aQmY5c2ZLOXc",
    "0B7EVK8r0v71pejhuem9QV2h0MDQ",
    "0B7EVK8r0v71pZk5QcUlObVltaEE",
    "0B7EVK8r0v71pLThPNzFETUNMUVE",
    "0B7EVK8r0v71pZWZ4UGdBbk9UVWs",
    "0B7EVK8r0v71pSk1zVWN2aHhMZ3c",
    "0B7EVK8r0v71pNjFfTGYzTWJDdUU",
    "0B7EVK8r0v71pbFlZaURkY3dhWWM",
    "0B7EVK8r0v71pczZ0NFNFdFRXSUU",
    "0B7EVK8r0v71pckZsdFFIYlJoN1k",
]

LANDMARKS = RemoteFile(
    "Anno/list_landmarks_celeba.txt",
    _drive("0B7EVK8r0v71pTzJIdlJWdHczRlU"),
    checksum="md5:063ee6ddb681f96bc9ca28c6febb9d1a",
)
ATTRIBUTES = RemoteFile(
    "Anno/list_attr_celeba.txt",
    _drive("0B7EVK8r0v71pblRyaVFSWGxPY0U"),
    26_721_026,
    "md5:75e246fa4810816ffd6ee81facbd244c",
)
PARTITION = RemoteFile(
    "Eval/list_eval_partition.txt",
    _drive("0B7EVK8r0v71pY0NSMzRuSXJEVkk"),
    2_836_386,
    "md5:d32c9cbf5e040fd4025c592c306e6668",
)
BOXES = RemoteFile(
    "Anno/list_bbox_celeba.txt",
    _drive("0B7EVK8r0v71pbThiMVRxWXZ4dU0"),
    6_082_035,
    "md5:00566efa6fedff7a56946cd1c10f1c16",
)
IDENTITIES = RemoteFile("Anno/identity_CelebA.txt", "", 3_424_458, "md5:32bd1bd63d3c78cd57e08160ec5ed1e2")
"""Given away by CelebA's authors on request; known here only to check a file that a user has."""

WILD_PARTS = tuple(
    RemoteFile(f"Img/img_celeba.7z/img_celeba.7z.{number:03}", _drive(file_id), checksum=f"sha1:{sha1}")
    for number, (file_id, sha1) in enumerate(_WILD_PARTS, start=1)
)


def _celeba(name: str, title: str, size: str, use: str, files: tuple[RemoteFile, ...], archive: Archive) -> DataSet:
    return DataSet(
        name,
        title,
        size,
        CELEBA_PAGE,
        CELEBA_DRIVE,
        CELEBA_TERMS,
        True,
        files,
        (archive,),
        use,
        "identity_CelebA.txt (optional): its authors give the identities on request, for research only",
    )


DATA_SETS = {
    data_set.name: data_set
    for data_set in (
        _celeba(
            "celeba",
            "CelebA's photos in the wild, with annotations",
            "10 GB, and as much again unpacked",
            "BuildCelebAHQ",
            (LANDMARKS, ATTRIBUTES, PARTITION, BOXES, *WILD_PARTS),
            Archive("Img/img_celeba.7z/img_celeba.7z.001", "Img", "img_celeba"),
        ),
        _celeba(
            "celeba-aligned",
            "CelebA's aligned images of 178 x 218 pixels, JPEG",
            "1.4 GB",
            "BuildCelebA128 (not BuildCelebAHQ)",
            (
                ATTRIBUTES,
                PARTITION,
                RemoteFile(
                    "Img/img_align_celeba.zip",
                    _drive("0B7EVK8r0v71pZjFTYXZWM3FlRnM"),
                    1_443_490_838,
                    "md5:00d2c5bc6d35e252742224ab0c1e8fcb",
                ),
            ),
            Archive("Img/img_align_celeba.zip", "Img", "img_align_celeba"),
        ),
        _celeba(
            "celeba-aligned-png",
            "the same, lossless, as the paper used them",
            "several GB",
            "BuildCelebA128 (not BuildCelebAHQ)",
            (
                ATTRIBUTES,
                PARTITION,
                *(
                    RemoteFile(f"Img/img_align_celeba_png.7z/img_align_celeba_png.7z.{number:03}", _drive(file_id))
                    for number, file_id in enumerate(_ALIGNED_PNG_PARTS, start=1)
                ),
            ),
            Archive(
                "Img/img_align_celeba_png.7z/img_align_celeba_png.7z.001",
                "Img",
                "img_align_celeba_png",
            ),
        ),
        DataSet(
            "cifar10",
            "CIFAR-10, 60,000 pictures of 32 x 32 pixels in 10 classes",
            "170 MB",
            "https://www.cs.toronto.edu/~kriz/cifar.html",
            "https://www.cs.toronto.edu/~kriz/cifar.html",
            "its page states no licence; it asks to cite Krizhevsky, Learning Multiple Layers of Features from Tiny "
            "Images, 2009",
            False,
            (
                RemoteFile(
                    "cifar-10-binary.tar.gz",
                    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                    170_052_171,
                    "md5:c32a1d4ab5d03f1284b67883e8d87530",
                ),
            ),
            (Archive("cifar-10-binary.tar.gz", "", "cifar-10-batches-bin"),),
            "BuildCIFAR10",
        ),
    )
}


def lsun(category: str) -> DataSet:
    """Return a category of LSUN, scene or object. Raises DataError for one that it does not have."""
    if category in LSUN_SCENES:
        name, folder = f"{category}_train_lmdb", "scenes"
    elif category in LSUN_OBJECTS:
        name, folder = category, "objects"
    else:
        raise DataError(f"LSUN has no category {category!r}; choose one of {', '.join(LSUN_SCENES + LSUN_OBJECTS)}")
    return DataSet(
        f"lsun {category}",
        f"LSUN's category {category}, pictures whose smaller side has 256 pixels",
        "43 GB for bedroom",
        "https://www.yf.io/p/lsun",
        f"http://dl.yf.io/lsun/{folder}/",
        "its page states no licence; it asks to cite Yu et al., arXiv:1506.03365",
        False,
        (RemoteFile(f"{name}.zip", f"http://dl.yf.io/lsun/{folder}/{name}.zip"),),
        (Archive(f"{name}.zip", "", name),),
        "BuildLSUN",
    )


def data_set(name: str, category: str = "bedroom") -> DataSet:
    """Return the data set of that name; `category` is that of LSUN. Raises DataError for an unknown name."""
    if name == "lsun":
        return lsun(category)
    if name not in DATA_SETS:
        raise DataError(f"{name}: no such data set; choose one of {', '.join([*DATA_SETS, 'lsun'])}")
    return DATA_SETS[name]
