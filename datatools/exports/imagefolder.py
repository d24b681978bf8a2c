"""A folder for each class, as torchvision's `ImageFolder` and Hugging Face's "imagefolder" read it."""

from datatools.exports.base import Layout, Named


class ImageFolder(Layout):
    """A folder of pictures for each class, whose names sort in the order of the classes."""

    needs_classes = True

    def name(self, picture: Named) -> str:
        return f"{picture.folder}/{picture.plain}"
