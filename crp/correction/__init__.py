"""From a suspicious concept to a better model.

===================  =========================================================================================
`candidates`         concepts that a class may use for the wrong reason
`coincidences`       whether they lie at the same place of the input in different samples, as a watermark does
`placed_direction`   such a concept as a direction of all channels, for the functions below
`suppress`           take a concept out of a layer, for every input: weights edited, same architecture
`project`            take out the direction in which activations change with a concept (ClArC)
`reactive`           put the usual activation around the places where the concept is active, and nowhere else
`refit`              fit the last layer again, or a layer and all above it, so that the concept no longer decides
`prune`              take out the filters that predictions rely on least; `pruning_curve` measures accuracy
`export_masks`       where the concept is in samples, for training elsewhere
`write_fixed`        save the result, as weights or as a program that torch alone runs
`measure_fix`        how much the concept decides, before and after
===================  =========================================================================================

None of them changes the caller's model. Each takes samples `[N, c, *S]` and returns a `Correction`. Names are imported
on first use.
"""

from crp.lazy_names import on_first_use

_HOMES = {
    "candidates": ".suspicion",
    "Candidate": ".suspicion",
    "coincidences": ".coincidence",
    "placed_direction": ".usual_place",
    "Correction": ".corrections",
    "suppress": ".removing",
    "project": ".removing",
    "reactive": ".removing",
    "refit": ".refitting",
    "export_masks": ".exporting",
    "prune": ".pruning",
    "pruning_curve": ".pruning",
    "relevance_scores": ".pruning",
    "write_fixed": ".writing",
    "measure_fix": ".figures_of_a_fix",
    "Dependence": ".figures_of_a_fix",
}

__all__ = [*_HOMES]
__getattr__ = on_first_use(__name__, _HOMES)
