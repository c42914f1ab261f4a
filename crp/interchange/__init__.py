"""Libraries from the files of other systems, and files for other systems.

===================  ===========================================================================================
`import_zennit_crp`  a library from the .npy files of zennit-crp's `FeatureVisualization`
`export_zennit_crp`  a library's references as such files
`export_virelay`     a project for ViRelAy: samples, heatmaps and clusters of some classes
===================  ===========================================================================================
"""

from .virelay import export_virelay
from .zennit_crp import export_zennit_crp, import_zennit_crp

__all__ = ["export_virelay", "export_zennit_crp", "import_zennit_crp"]
