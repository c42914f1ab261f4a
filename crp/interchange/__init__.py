"""Libraries made of what other systems leave on disk, and written for them.

===================  ===========================================================================================
`import_zennit_crp`  a library of the .npy files that zennit-crp's `FeatureVisualization` left
`export_zennit_crp`  a library's references as such files
`export_virelay`     a project that ViRelAy opens: samples, heatmaps and clusters of some classes
===================  ===========================================================================================
"""

from .virelay import export_virelay
from .zennit_crp import export_zennit_crp, import_zennit_crp

__all__ = ["export_virelay", "export_zennit_crp", "import_zennit_crp"]
