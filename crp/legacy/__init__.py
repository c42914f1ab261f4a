"""The names of zennit-crp 0.6.0, as thin wrappers around our own engine, mining and library.

Code written for zennit-crp imports them from where they were. `crp.attribution`, `crp.concepts` and `crp.visualization`
load them on first use (`crp.compat`), and the modules in old_paths/ are imported as `crp.helper`, `crp.hooks`, ...
docs/migrating-from-zennit-crp.md compares old and new.

cond_attribution.py       CondAttribution, with the methods that its users override
attribution_graph.py      AttributionGraph
concept_base.py           Concept, the base class of concepts
feature_visualization.py  FeatureVisualization: mining; reference_drawing.py: its references and classes
kept.py                   the base of Maximization and Statistics
stored.py                 the .npy files of zennit-crp; `crp.interchange` turns them into libraries
old_paths/cache.py        Cache, ImageCache
old_paths/graph.py        trace_model_graph, ModelGraph
old_paths/helper.py       get_layer_names, get_output_shapes, ...
old_paths/hooks.py        MaskHook, FeatVisHook
old_paths/image.py        imgify, vis_img_heatmap, vis_opaque_img, plot_grid
old_paths/maximization.py, old_paths/statistics.py
"""
