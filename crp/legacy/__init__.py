"""The names of zennit-crp 0.6.0, as thin faces on our own engine, mining and library. No relevance is computed here.

Old code imports them from where they were: `crp.attribution`, `crp.concepts` and `crp.visualization` hand them on on
first use, the modules `crp.helper`, `crp.hooks`, `crp.graph`, `crp.image`, `crp.cache`, `crp.maximization` and
`crp.statistics` are nothing else. What is old and what is new, side by side: docs/migrating-from-zennit-crp.md.

attribution.py     CondAttribution with the seams `backward` and `broadcast`; AttributionGraph
concepts.py        Concept, the base class that old concepts inherit from
graph.py           trace_model_graph, ModelGraph
hooks.py           MaskHook, FeatVisHook
helper.py          get_layer_names, get_output_shapes, ...
visualization.py   FeatureVisualization, with maximization.py and statistics.py (what these share: kept.py)
stored.py          the .npy files that zennit-crp leaves; `crp.interchange` makes libraries of them
cache.py           Cache, ImageCache
image.py           imgify, vis_img_heatmap, vis_opaque_img, plot_grid
"""
