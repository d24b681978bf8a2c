"""How good pictures are: each measure goes from images to descriptors or statistics, and from those to a number.

swd         sliced Wasserstein distance of two sets of images, level by level of a Laplacian pyramid
ms_ssim     multi-scale structural similarity within one set: high where the pictures hardly differ
frechet     Fréchet distance of two normal distributions
fidelity    FID, inception score, precision and recall, by the network of the optional package torch-fidelity
neighbours  the real images that are most like given ones
"""
