"""How good pictures are: each measure goes from images to descriptors or statistics, and from those to a number.

swd         sliced Wasserstein distance of two sets of images, level by level of a Laplacian pyramid
ms_ssim     multi-scale structural similarity within one set: high where the pictures hardly differ
lpips       perceptual distance of two images, by a VGG16 network
figures     FID, KID, inception score, precision and recall, density and coverage, from features
inception   features by the Inception network, of the optional package torch-fidelity
dinov2      features by DINOv2
neighbours  the real images that are most like given ones
"""
