"""What inputs other than pictures are: what their axes mean, and how files become model input.

========================  ===========================================================================================
`Medium`                  a signal, sound, spectrogram, image, volume or video: its axes, its channels, its files
`Axis`                    one axis: where each of its values lies
`Stft`                    how sounds become spectrograms, the same as a layer of a model and as a function
`read_recording`          any file with numbers: .npy, .wav, .csv, .edf, .nii, .nii.gz, .tif, .png
`preprocessing_from`      a `Preprocessing` or a `Medium` from the JSON values of a library
========================  ===========================================================================================

A `Medium` stands wherever a `Preprocessing` of pictures may stand, as in `crp.mine(..., preprocessing=)`.
"""

from crp.lazy_names import on_first_use

_HOMES = {
    "Axis": ".medium",
    "Medium": ".medium",
    "Stft": ".stft",
    "StftLayer": ".stft",
    "Recording": ".recordings",
    "read_recording": ".recordings",
    "preprocessing_from": ".any_preprocessing",
}

__all__ = [*_HOMES]
__getattr__ = on_first_use(__name__, _HOMES)
