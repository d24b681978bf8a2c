"""Pictures projected into a style-based model: the w and the noise maps whose picture is nearest to them."""
