"""zennit-crp's `crp.image`, handed on from `crp.legacy`."""

from crp.legacy.image import get_crop_range, imgify, plot_grid, vis_img_heatmap, vis_opaque_img

__all__ = ["get_crop_range", "imgify", "plot_grid", "vis_img_heatmap", "vis_opaque_img"]
