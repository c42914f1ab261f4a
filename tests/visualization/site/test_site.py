"""A site: what its pages hold, say and link to."""

import json
import math
import re
from urllib.parse import unquote

import numpy as np
import torch
from PIL import Image

import crp
from crp.explanations import numbers
from crp.library.patches import MODES
from crp.visualization import triage_wording, wording
from crp.visualization.page_files import file_name
from crp.visualization.picture_formats import PATCHES_SUFFIX
from crp.visualization.sheets import SIDE
from crp.visualization.site.site_maker import make_site
from page_source import numbers_in, numbers_of_a_page
from tests.visualization.site import small_site as small
from tests.visualization.site.reading import Page, referred, said
from tests.visualization.site.small_site import OPTIONS


def test_everything_that_is_referred_to_is_there(made, tmp_path):
    pages = sorted(made.rglob("*.html"))
    assert len(pages) == 2 + 3 + (1 + 6) + (1 + 8)
    for page in pages:
        assert referred(page), page
        for address in referred(page):
            assert (page.parent / unquote(address)).is_file(), f"{page} refers to {address}"
            assert "//" not in address
    order = json.loads((made / "assets" / "order.js").read_text().removeprefix("window.predictions = ").rstrip(";\n"))
    assert [page for page, _ in order] == [file_name(path.stem) for path in small.pictures(tmp_path)]
    linked = {(page.parent / address).resolve() for page in pages for address in referred(page)}
    assert {page for page in pages if page.resolve() not in linked} == set()


NAMING = ["names.js", "naming.js"]
# Of script elements that hold no script.
DATA = ("application/json", "text/plain")
SCRIPTS = {
    "prediction": [*NAMING, "page.js", "order.js", "site.js"],
    "concept": [*NAMING, "site.js", "concept.js"],
    "layer": [*NAMING, "site.js"],
    "index.html": [*NAMING, "site.js", "predictions.js", "index.js"],
    "compare.html": [*NAMING, "site.js", "predictions.js", "compare.js"],
}


def test_what_pages_share_is_written_once(made):
    """No page holds script, style or a patch of its own."""
    for page in made.rglob("*.html"):
        scripts = [given for given in Page(page).all("script") if given.get("type") not in DATA]
        names = [given.get("src", "").split("/")[-1] for given in scripts]
        kind = "prediction" if page.parent.name == "predictions" else "concept" if page.stem.isdecimal() else page.name
        if kind == "index.html" and page.parent != made:
            kind = "layer"
        assert names == SCRIPTS[kind]
        assert "--paper" not in page.read_text("utf-8")
    for page in (made / "predictions").glob("*.html"):
        sheets = re.findall(r"--sheet:url\((.*?)\)", page.read_text("utf-8"))
        cards = re.findall(r'<div class="strips p\d+">', page.read_text("utf-8"))
        assert len(sheets) == len(cards) > 4
        assert all(sheet.startswith("../concepts/") for sheet in sheets)
        assert page.read_text("utf-8").count("data:image") < 40


def script(path):
    """The JSON that a script of the site sets."""
    return json.loads(path.read_text("ascii").split(" = ", 1)[1].rstrip(";\n"))


def test_an_entry_of_the_index_says_what_python_says(made, model, library, files):
    index, content = Page(made / "index.html"), script(made / "assets" / "predictions.js")
    layers = [layer["name"] for layer in content["layers"]]
    assert len(index.all("li", "prediction")) == len(content["predictions"]) == 3
    for file, row in zip(files, content["predictions"], strict=True):
        explanation = crp.explain(model, file, library, concepts=2, cells=3, graph=False)
        found = dict(zip(content["fields"], row, strict=True))
        assert (found["name"], content["names"][found["target"]]) == (file.name, explanation.target.name)
        assert found["value"] == wording.class_value(explanation.target, explanation.best)
        assert found["probability"] == round(explanation.best.probability, 4)
        assert (found["label"], found["right"]) == (-1, None)
        for layer, pairs in zip(explanation.layers, found["shares"], strict=True):
            assert layers[len(layers) - len(explanation.layers) + explanation.layers.index(layer)] == layer.layer
            assert pairs[::2] == [part.concept for part in layer.ranked]
            # what the script prints: cut off, a share that is rounded to a tenth of a percent gives what pages print
            printed = [
                math.copysign(math.floor(abs(share) * 1000 / content["unit"] + 0.5), share) for share in pairs[1::2]
            ]
            expected = [wording.signed_percent(part.share) for part in layer.ranked]
            assert [wording.signed_percent(tenths / 1000) for tenths in printed] == expected
    assert "crp atlas small.crp photos --out site" in index.text
    assert str(library.path) not in index.text + (made / "assets" / "predictions.js").read_text()


def test_all_uses_of_a_layer_are_kept_with_their_shares(made, model, library, files):
    """Also of concepts without a card: against the relevance of all concepts of the layer."""
    content = script(made / "assets" / "predictions.js")
    for layer in content["layers"]:
        stored = script(made / layer["place"] / "shares.js")
        for place, file in enumerate(files):
            explanation = crp.explain(model, file, library, concepts=2, cells=3, graph=False, layers=[layer["name"]])
            relevance = explanation.layers[0].relevance
            shares = relevance / np.abs(relevance).sum()
            for concept, share in enumerate(shares):
                flat = stored.get(str(concept), [])
                found = dict(zip(flat[::2], flat[1::2], strict=True)).get(place)
                assert found == (int(share * content["unit"]) if abs(share) >= 0.0005 else None)


def test_a_page_of_the_site_holds_the_numbers_of_a_page_alone(made, model, library, files):
    page = (made / "predictions" / "picture_0.html").read_text("utf-8")
    found = numbers_in(page)
    provenance = {"image": files[0].name, "command": ""}
    alone = crp.explain(model, files[0], library, concepts=2, cells=3, provenance=provenance)
    assert found == json.loads(json.dumps(numbers_of_a_page(numbers(alone))))


def test_a_card_leads_to_its_concept_and_back(made, model, library, files):
    explanation = crp.explain(model, files[0], library, concepts=2, cells=3)
    links = {given.get("href") for given in Page(made / "predictions" / "picture_0.html").all("a")}
    for layer in explanation.layers:
        place = file_name(layer.layer)
        for part in layer.ranked:
            assert f"../concepts/{place}/{part.concept}.html" in links
            back = {given.get("href") for given in Page(made / "concepts" / place / f"{part.concept}.html").all("a")}
            anchor = f"{layer.layer.replace('/', '%2F')}/{part.concept}"
            assert f"../../predictions/picture_0.html#{anchor}" in back


def test_a_concept_that_nobody_uses_is_said_to_be_unused(tmp_path):
    """Its relevance is a rounding error of that of others, with the direction of a class profile."""
    model = small.network()
    with torch.no_grad():
        model.e.weight[:, 5 * 64 : 6 * 64] *= 1e-7
        model.upper.weight[6] *= 0
        model.upper.bias[6] = -1
    library = small.mined(tmp_path, model)
    assert 0 < np.abs(library.statistics("upper").share[:, 5]).max() < 1e-4
    make_site(None, [], library, tmp_path / "site", progress=False)
    for concept in range(8):
        page = Page(tmp_path / "site" / "concepts" / "upper" / f"{concept}.html")
        unused = concept in (5, 6)
        assert ("No mined class uses it: its mean share of the layer is below 0.05 %" in page.text) == unused
        assert ("A concept that no class uses is not compared with others." in page.text) == unused
        assert ("No mined sample activates it" in page.text) == (concept == 6)
        alike = {link.get("href") for link in page.all("a")} & {"5.html", "6.html"}
        # those before and after it in the layer are there for all
        assert alike <= {f"{concept - 1}.html", f"{concept + 1}.html"}


def test_low_scores_are_explained():
    say = triage_wording.low_scores
    assert say("relevance", [0.5, 0.1]) == say("activation", [0.5]) == say("negative", [-0.5, -0.1]) == ""
    assert say("relevance", [0.5, 0.0]) == (
        "Samples with a score of 0 have no positive relevance for it, and are in no particular order."
    )
    assert say("relevance", [0.0]).startswith("No mined sample has positive relevance for it")
    assert say("activation", [0.5, -0.1]) == "Samples with a score of 0 or below do not activate it."
    assert say("activation", [-0.1]).startswith("No mined sample activates it")


def test_a_concept_page_says_what_the_library_holds(made, library):
    profiles = library.profiles("upper")
    for concept in range(8):
        page = Page(made / "concepts" / "upper" / f"{concept}.html")
        assert ("Without it" in page.text) == ("No prediction on this site has a card for it." not in page.text)
        for use in profiles.users(concept, 8):
            assert use.name in page.text
            assert wording.signed_percent(use.share) in page.text
        for other in profiles.alike_by_classes(concept, 8):
            assert f"{other.value:.2f}" in page.text
        for other in profiles.alike_by_samples(concept, 8):
            assert f"{other.value:.0f} of 4" in page.text
        stored = [patch for mode in MODES for patch in library.patches("upper", concept, mode)]
        shown = re.findall(r"\b\d+: (sample \d+.*?, score [-−.\de]+)", page.text)
        assert shown == [wording.patch(patch) for patch in stored]


def test_every_class_named_first_comes_with_its_number_of_samples(made, library):
    """One lucky sample must not read like a finding."""
    profiles, overview = library.profiles("upper"), said(made / "concepts" / "upper" / "index.html")
    used = [concept for concept in range(8) if profiles.users(concept, 1)]
    assert len(used) > 4
    for concept in used:
        users = [use for use in profiles.users(concept, 3) if use.share >= 0.0005]
        named = [f"{wording.printable(use.name)} ({wording.class_use(use)})" for use in users]
        assert all("n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}4, few samples" in text for text in named)
        listed = {1: "{}", 2: "{} and {}", 3: "{}, {} and {}"}[len(named)].format(*named)
        read = said(made / "concepts" / "upper" / f"{concept}.html")
        assert " ".join(f"Used most by {listed}.".split()) in wording.printable(read)
        assert " ".join(f"{wording.class_mean(users[0])}, n = 4".split()) in overview


def test_a_site_says_when_classes_are_what_the_model_predicted(made, model, tmp_path):
    guessed = small.mined(tmp_path, model, targets="prediction")
    make_site(None, [], guessed, tmp_path / "site", **OPTIONS)
    sentence = "Classes are what the model predicted for the mined samples, not labels."
    for name in ("0.html", "index.html"):
        assert sentence in said(tmp_path / "site" / "concepts" / "upper" / name)
        assert sentence not in said(made / "concepts" / "upper" / name)


def test_a_model_with_one_output_has_no_classes_to_compare(files, tmp_path):
    model = small.network()
    model.e = torch.nn.Linear(512, 1)
    library = small.mined(tmp_path, model, targets="prediction", class_names=None)
    make_site(model, files[:1], library, tmp_path / "site", **OPTIONS)
    profiles, folder = library.profiles("upper"), tmp_path / "site" / "concepts" / "upper"
    signs = set()
    for concept in range(8):
        read = said(folder / f"{concept}.html")
        for word in ("Used most by", "Classes that use it", "By the classes", "not labels"):
            assert word not in read
        shown = [patch for mode in MODES for patch in library.patches("upper", concept, mode)]
        captions = re.findall(r"<figcaption><bdi>(.*?)</bdi>", (folder / f"{concept}.html").read_text("utf-8"))
        assert captions == [f"sample {patch.sample}" for patch in shown]
        use = [*profiles.users(concept, 1), *profiles.users(concept, 1, sign=-1)][0]
        signs.add(use.share > 0)
        assert (
            f"Mean share of the layer over the mined samples: {wording.class_use(use)}."
            in Page(folder / f"{concept}.html").text
        )
        assert f"{wording.class_mean(use)}, " in Page(folder / "index.html").text
    assert signs == {True, False}
    assert "Each card shows a picture, the model’s output and" in said(tmp_path / "site" / "index.html")


def test_shares_are_explained_where_they_stand(made):
    assert wording.LAYER_SHARE_MEANS in said(made / "index.html")
    concepts = [said(path) for path in (made / "concepts" / "upper").glob("?.html")]
    assert all(wording.LAYER_SHARE_MEANS in text for text in concepts)
    drawn = [text for text in concepts if "In the attribution graphs" in text]
    assert drawn
    meaning = "the relevance that flows along the edge divided by the relevance that started at the output"
    assert all(meaning in text for text in drawn)


def test_modes_without_patches_are_not_shown(made, library):
    titles = re.findall(r'id="strip-(\w+)"', (made / "concepts" / "upper" / "0.html").read_text("utf-8"))
    assert titles == [mode for mode in MODES if library.patches("upper", 0, mode)]


def test_a_sheet_holds_the_patches_of_a_concept(made, library):
    with Image.open(made / "concepts" / "upper" / f"3{PATCHES_SUFFIX}") as picture:
        sheet = np.asarray(picture).astype(int)
    for row, mode in enumerate(MODES):
        for column, patch in enumerate(library.patches("upper", 3, mode)):
            cell = sheet[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
            picture = Image.fromarray(np.ascontiguousarray(patch.picture))
            stretched = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
            assert np.abs(cell - stretched).mean() < 4  # not lossless


def test_hostile_names_are_text(made, files):
    """What a tag could come from is text or an attribute's value; addresses are plain."""
    for page in made.rglob("*.html"):
        parsed = Page(page)
        assert all("onerror" not in given for _, given in parsed.tags)
        assert all(given.get("src") != "x" for given in parsed.all("img"))
    assert small.HOSTILE in Page(made / "concepts" / "upper" / "0.html").text
    assert files[1].name in Page(made / "index.html").text
    names = [path.name for path in made.rglob("*")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in names), names


def test_names_of_pages_are_told_apart():
    taken = []
    for text in ("Zebra", "zebra", "zebra!", "zebra?", "index", ".hidden", "", "x" * 200):
        taken.append(file_name(text, taken))
    assert taken == ["Zebra", "zebra-2", "zebra_", "zebra_-2", "index-2", "hidden", "_", "x" * 80]


def test_concept_pages_say_which_predictions_are_wrong(model, library, files, tmp_path):
    with torch.no_grad():
        best = [int(model(library.preprocessing.to_input(Image.open(file))[None]).argmax()) for file in files]
    folder, ready, other = tmp_path / "site", crp.prepared(model), [(index + 1) % 3 for index in best]

    def both(first, mark):
        """Pages on which both labelled pictures are, the first of them marked like that."""
        make_site(ready, files, library, folder, labels={files[0]: first, files[2]: other[2]}, **OPTIONS)
        found = 0
        for page in (folder / "concepts").rglob("[0-9]*.html"):
            text = said(page)
            shown = [name in text for name in ("picture 0.png", "picture 2.png")]
            assert [f"picture 0.png {mark}, labelled" in text, "picture 2.png ✗ wrong, labelled" in text] == shown
            wrong = (shown[0] and "✗" in mark) + shown[1]
            links = [given["href"] for given in Page(page).all("a") if "show=wrong" in given.get("href", "")]
            concept = f"{page.parent.name.replace('low_er', 'low/er')}/{page.stem}"
            assert [unquote(link) for link in links] == [f"../../index.html#show=wrong&concept={concept}"] * (wrong > 0)
            if any(shown):
                right = sum(shown) - wrong
                assert f" a card for it: {right} right, {wrong} wrong" in text
            found += all(shown)
        return found

    assert both(best[0], "✓ right") > 0
    # another label is news for pages that were made
    assert both(other[0], "✗ wrong") > 0
