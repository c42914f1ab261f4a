"""What is written for ViRelAy, opened by ViRelAy's own package, and clustered again by CoRelAy's."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import crp
from crp.attribution import RelevanceFlow, composite_for
from crp.errors import InputError, LibraryError
from crp.interchange import export_virelay
from crp.mining import mine
from crp.preprocessing import Preprocessing

h5py = pytest.importorskip("h5py", reason="h5py, an optional extra, is not installed")
pytest.importorskip("sklearn", reason="scikit-learn, an optional extra, is not installed")

NAMES = ["hawk", "wren", "<jay>"]


def others_package(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other people's imports
        return pytest.importorskip(name, reason=f"{name} is not installed: pip install --no-deps {name.split('.')[0]}")


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 3)).eval()
    pictures = np.random.default_rng(0).integers(0, 256, (75, 8, 8, 3), dtype=np.uint8)
    preprocessing = Preprocessing(mean=0.5, std=0.25)
    data = torch.stack([preprocessing.to_input(picture) for picture in pictures])
    dataset = TensorDataset(data, torch.arange(75) % 3)
    folder = tmp_path_factory.mktemp("virelay")
    options = {"class_names": NAMES, "preprocessing": preprocessing, "patches": 0, "progress": False}
    library = mine(model, dataset, layers=["0"], path=folder / "birds.crp", vectors=True, **options)
    file = export_virelay(library, model, dataset, "0", folder / "project", targets=["<jay>", 0], samples=20)
    return library, model, dataset, pictures, file


def test_the_files_hold_what_they_say(case):
    library, model, dataset, pictures, file = case
    vectors = library.vectors("0")
    with h5py.File(file.with_name("dataset.h5")) as written, h5py.File(file.with_name("attribution.h5")) as heatmaps:
        samples = written["sample"][:]
        assert len(samples) == 40
        assert written["label"][:].tolist() == heatmaps["label"][:].tolist() == [2] * 20 + [0] * 20
        assert (samples % 3).tolist() == [2] * 20 + [0] * 20
        assert samples[[0, 19, 20, 39]].tolist() == [2, 74, 0, 72]
        np.testing.assert_array_equal(written["data"][:], pictures[samples])
        for place in (3, 30):
            with RelevanceFlow(model, composite_for(model).composite, dataset[samples[place]][0][None]) as flow:
                expected = flow.down(flow.output_relevance([int(samples[place]) % 3]))[0, 0].numpy()
                np.testing.assert_allclose(heatmaps["attribution"][place], expected, atol=1e-5 * np.abs(expected).max())
                assert heatmaps["prediction"][place].argmax() == vectors.prediction[samples[place]]


def test_a_prepared_model_writes_the_same(case, tmp_path):
    library, model, dataset, _, file = case
    ready = crp.prepared(model)
    again = export_virelay(library, ready, dataset, "0", tmp_path / "project", targets=["<jay>", 0], samples=20)
    for name in ("dataset.h5", "attribution.h5"):
        with h5py.File(file.with_name(name)) as theirs, h5py.File(again.with_name(name)) as ours:
            for key in theirs:
                np.testing.assert_array_equal(ours[key], theirs[key])


def test_virelay_opens_the_project(case):
    model = others_package("virelay.model")
    _, _, _, pictures, file = case
    project = model.Project(str(file))
    (method,) = project.get_analysis_methods()
    categories = project.get_analysis_categories(method)
    names = [(one.name, one.human_readable_name) for one in categories]
    assert names == [("class00000", "hawk"), ("class00002", "<jay>")]
    assert project.get_analysis_clustering_names(method) == project.get_analysis_embedding_names(method) == ["spectral"]
    analysis = project.get_analysis(method, "class00002", "spectral", "spectral")
    assert analysis.attribution_indices.tolist() == list(range(20))
    assert analysis.embedding.shape == (20, 10)
    assert set(analysis.clustering.tolist()) == set(range(analysis.clustering.max() + 1))
    sample = project.get_sample(7)
    np.testing.assert_array_equal(sample.data, pictures[sample_number(file, 7)])
    assert [label.name for label in sample.labels] == ["<jay>"]
    attribution = project.get_attribution(25)
    assert attribution.data.shape == (8, 8, 3)
    assert [label.name for label in attribution.labels] == ["hawk"]
    assert attribution.render_heatmap("seismic", sample.data).shape == (8, 8, 3)
    project.close()


def sample_number(file, place: int) -> int:
    with h5py.File(file.with_name("dataset.h5")) as written:
        return int(written["sample"][place])


def test_corelay_finds_the_same_eigenvalues(case):
    spectral = others_package("corelay.pipeline.spectral")
    embedding = others_package("corelay.processor.embedding")
    library, _, _, _, file = case
    with h5py.File(file.with_name("analysis.h5")) as analysis:
        written = analysis["class00000/embedding/spectral"].attrs["eigenvalue"]
        places = analysis["class00000/index"][:]
    samples = [sample_number(file, place) for place in places]
    smallest = embedding.EigenDecomposition(n_eigval=10, which="LA", is_output=True)
    pipeline = spectral.SpectralEmbedding(embedding=smallest)
    values, _ = pipeline(library.vectors("0").relevance[samples].astype(np.float64))
    np.testing.assert_allclose(np.sort(values), written, atol=1e-6)


def test_what_does_not_fit_is_refused_and_leaves_nothing(case, tmp_path):
    library, model, dataset, _, _ = case
    path = tmp_path / "project"
    with pytest.raises(LibraryError, match="This is not the data set that was mined: its fingerprint"):
        export_virelay(library, model, TensorDataset(dataset.tensors[0] + 1), "0", path)
    with pytest.raises(InputError, match="There is no class 'jay': did you mean '<jay>'"):
        export_virelay(library, model, dataset, "0", path, targets=["jay"])
    assert not list(tmp_path.iterdir())
