"""The commands do what their help says, and leave what they promise."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from crp.cli import main
from crp.cli.group import INTERRUPTED
from crp.demo.demo_kinds import KINDS
from crp.library import open_library
from crp.library.store import TABLES
from crp.library.summary import PRIVACY, RUN_BY_NAME, _model_option
from crp.sources import load_model
from crp.sources.named_models import FAMILIES
from crp.sources.provenance import data_of
from tests import processes

COMMANDS = ("atlas", "classes", "demo", "info", "merge", "mine", "search", "strategies", "verify")
SMALL = ("--concepts", 1, "--no-graph")  # a page that is made quickly


def crp(*words, folder, **options):
    return processes.run(["-m", "crp", *words], cwd=folder, **options)


class TestHelp:
    def test_of_the_group_teaches(self):
        result = CliRunner().invoke(main, ["--help"])
        assert result.exit_code == 0
        assert all(f"  {name} " in result.output for name in COMMANDS)
        assert "crp mine torchvision:" in result.output

    @pytest.mark.parametrize("name", COMMANDS)
    def test_of_a_command_has_an_example(self, name):
        result = CliRunner().invoke(main, [name, "--help"])
        assert result.exit_code == 0
        assert f"Example:\n      crp {name}" in result.output

    def test_comes_without_torch(self, tmp_path):
        code = "import sys; sys.argv = ['crp', '--help']\nfrom crp.cli import main\n"
        code += "try:\n    main()\nfinally:\n    print(sorted({'torch', 'numpy', 'matplotlib'} & set(sys.modules)))"
        result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert result.stdout.splitlines()[-1] == "[]"

    def test_version(self):
        from importlib.metadata import version

        assert CliRunner().invoke(main, ["--version"]).output == f"crp-atlas, version {version('crp-atlas')}\n"


class TestMine:
    def test_is_the_library_that_python_mines(self, mined_shop, tmp_path):
        from crp.mining import mine
        from crp.sources import load_data

        library = open_library(mined_shop.folder / "mined.crp")
        model, data = (load_model(f"{mined_shop.folder}/net.py:make"), load_data(str(mined_shop.folder / "photos")))
        again = mine(model, data, layers=["0", "2"], path=tmp_path / "a.crp", patches=1, progress=False)
        for layer in ("0", "2"):
            for mode in ("relevance", "activation"):
                ours, theirs = library.references(layer, mode), again.references(layer, mode)
                assert (ours.sample == theirs.sample).all()
                assert (ours.score == theirs.score).all()
        assert library.class_names == ("ant", "bee", "wasp")

    def test_keeps_what_it_was_told(self, mined_shop):
        source = open_library(mined_shop.folder / "mined.crp").manifest["source"]
        assert source == {
            "model": f"{mined_shop.folder}/net.py:make",
            "data": f"{mined_shop.folder}/photos",
            "weights": None,
            "command": [
                *("crp", "mine", "net.py:make", "photos", "--layers", "0,2"),
                *("--references", "16", "--patches", "1", "--block-size", "32"),
            ],
        }

    def test_says_what_it_chose(self, shop):
        result = shop.run("mine", "net.py:make", "photos", "--out", "b.crp", "--size", 10, "--mean", "0.5,0.4,0.3")
        assert result.exit_code == 0
        assert "Mined layers: 0, 2; the last of each stage" in result.stderr
        assert "The label of each sample is explained." in result.stderr
        assert result.stdout == "Library: b.crp\nNext:    crp atlas b.crp photos/ant/0.png --model net.py:make\n"
        library = open_library(shop.folder / "b.crp")
        assert library.preprocessing.to_json() == {
            "size": 10,
            "crop": 10,
            "mean": [0.5, 0.4, 0.3],
            "std": [1, 1, 1],
            "mode": "RGB",
            "interpolation": "bilinear",
        }

    def test_workers_do_not_change_the_library(self, shop):
        made = []
        for workers in (0, 1):
            out = shop.folder / f"{workers}.crp"
            assert (
                shop.run("mine", "net.py:make", "photos", "--out", out, "--layers", "2", "--workers", workers).exit_code
                == 0
            )
            made.append({path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()})
        assert made[0] == made[1]

    def test_overwrites_only_when_told(self, shop):
        words = ("mine", "net.py:make", "photos", "--out", "mined.crp", "--layers", "2")
        assert shop.run(*words).exit_code == 2
        assert open_library(shop.folder / "mined.crp").layers == ("0", "2")
        assert shop.run(*words, "--overwrite").exit_code == 0
        assert open_library(shop.folder / "mined.crp").layers == ("2",)


class TestAtlas:
    @pytest.mark.parametrize("named", [("--model", "net.py:make"), ("--trust",)])
    def test_of_a_picture(self, shop, named):
        result = shop.run("atlas", "mined.crp", "new.png", "--out", "a.json", "--concepts", 2, "--layers", "2", *named)
        assert result.stdout == "a.json\n"
        content = json.loads((shop.folder / "a.json").read_text())
        assert [layer["layer"] for layer in content["layers"]] == ["2"]
        assert content["provenance"]["image"] == "new.png"
        with torch.no_grad():
            from crp.preprocessing import Preprocessing, read_picture

            data = Preprocessing().to_input(read_picture(shop.folder / "new.png"))
            logits = load_model(f"{shop.folder}/net.py:make")(data[None])[0]
        assert content["target"]["index"] == int(logits.argmax())
        assert content["target"]["logit"] == pytest.approx(float(logits.max()), rel=1e-5)

    @pytest.mark.parametrize(("target", "index"), [("bee", 1), ("2", 2)])
    def test_of_a_class_by_name_or_index(self, shop, target, index):
        words = ("atlas", "mined.crp", "new.png", "--out", "a.json", "--trust", "--target", target)
        assert shop.run(*words).exit_code == 0
        assert json.loads((shop.folder / "a.json").read_text())["target"]["index"] == index

    def test_of_two_classes_says_how_to_make_it_again(self, shop):
        options = ("--target", "bee", "--against", "wasp", "--layers", "0,2", "--trust")
        words = ("atlas", "mined.crp", "new.png", *options)
        assert shop.run(*words, "--out", "a.json").exit_code == 0
        content = json.loads((shop.folder / "a.json").read_text())
        assert content["target"]["name"] == "bee"
        other, difference = content["beside"]
        assert (other["target"]["name"], other["against"]) == ("wasp", None)
        assert (difference["target"]["name"], difference["against"]["name"]) == ("bee", "wasp")
        command = content["provenance"]["command"]
        assert command == "crp atlas mined.crp new.png --layers 0,2 --target bee --against wasp --trust"
        assert shop.run(*command.split()[1:], "--out", "b.json").exit_code == 0
        assert (shop.folder / "a.json").read_bytes() == (shop.folder / "b.json").read_bytes()

    def test_with_or_without_its_graph(self, shop):
        words = ("atlas", "mined.crp", "new.png", "--trust", "--format", "dot", "--format", "json")
        assert shop.run(*words).exit_code == 0
        assert (shop.folder / "new.dot").read_text().startswith("digraph concepts {")
        result = shop.run(*words, "--no-graph")
        assert result.exit_code == 2
        assert "has no graph to save as .dot" in result.stderr

    def test_several_pictures_and_formats_go_to_a_folder(self, shop):
        pictures = ("new.png", "photos/ant/0.png")
        result = shop.run(
            "atlas", "mined.crp", *pictures, "--trust", "--out", "x/y", "--format", "html", "--format", "json"
        )
        assert result.exit_code == 0, result.output
        written = ["x/y/new.html", "x/y/new.json", "x/y/0.html", "x/y/0.json"]
        assert result.stdout.split() == written
        assert all((shop.folder / name).stat().st_size > 1000 for name in written)

    def test_goes_to_the_folder_one_works_in(self, shop):
        assert shop.run("atlas", "mined.crp", "new.png", "--trust", "--format", "json").stdout == "new.json\n"

    def test_of_a_torchvision_model_needs_nothing_else(self, shop):
        from safetensors.torch import save_file

        torch.manual_seed(0)
        model = load_model("torchvision:squeezenet1_1")
        save_file(model.state_dict(), shop.folder / "w.safetensors")
        words = ("--weights", "w.safetensors", "--size", "64", "--layers", "features.3", "--targets", "prediction")
        mined = shop.run("mine", "torchvision:squeezenet1_1", "photos", "--out", "s.crp", "--patches", 0, *words)
        assert mined.exit_code == 0, mined.output
        result = shop.run("atlas", "s.crp", "new.png", "--out", "s.json", *SMALL)
        assert result.exit_code == 0, result.output
        assert json.loads((shop.folder / "s.json").read_text())["layers"][0]["size"] == 128


class TestSite:
    def test_of_a_folder(self, shop):
        result = shop.run("atlas", "mined.crp", "photos", "new.png", "--trust", "--concepts", 1, "--out", "x/site")
        assert result.exit_code == 0, result.output
        assert result.stdout == "x/site/index.html\n"
        names = {path.name for path in (shop.folder / "x/site/predictions").glob("*.html")}
        assert names == {*(f"{index}.html" for index in range(6)), "new.html"}
        index = (shop.folder / "x/site/index.html").read_text()
        assert "crp atlas mined.crp photos new.png --concepts 1 --trust" in index
        page = (shop.folder / "x/site/predictions/4.html").read_text()
        assert "crp atlas mined.crp photos/bee/4.png --concepts 1 --trust" in page
        before = shop.files()
        again = shop.run("atlas", "mined.crp", "photos", "new.png", "--trust", "--concepts", 1, "--out", "x/site")
        assert again.exit_code == 0
        assert shop.files() == before

    def test_of_single_pictures_or_of_none(self, shop):
        result = shop.run("atlas", "mined.crp", "new.png", "--site", "--trust")
        assert result.stdout == "site/index.html\n"
        assert [path.name for path in (shop.folder / "site/predictions").glob("*.html")] == ["new.html"]
        result = shop.run("atlas", "mined.crp", "--site", "--layers", "2", "--out", "concepts")
        assert result.exit_code == 0, result.output
        assert len(list((shop.folder / "concepts").rglob("[0-9].html"))) == 5
        assert "crp atlas mined.crp --layers 2 --site" in (shop.folder / "concepts/index.html").read_text()

    def test_among_its_pictures_takes_none_of_its_own(self, shop):
        for _ in range(2):
            result = shop.run("atlas", "mined.crp", "photos", "--trust", "--out", "photos/site", *SMALL)
            assert result.exit_code == 0, result.output
            assert len(list((shop.folder / "photos/site/predictions").glob("*.html"))) == 6

    def test_names_the_picture_that_fails_and_makes_the_rest(self, shop):
        (shop.folder / "photos" / "ant" / "7.png").write_text("not a picture")
        result = shop.run("atlas", "mined.crp", "photos", "--trust", *SMALL)
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1] == (
            "Error: 1 of 7 pictures could not be explained and are not in 'site/index.html': "
            "'photos/ant/7.png' is not a picture: it is a text that begins with 'not a picture'."
        )
        assert len(list((shop.folder / "site/predictions").glob("*.html"))) == 6

    @pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
    def test_ctrl_c_leaves_complete_pages_and_says_how_to_go_on(self, shop):
        process = processes.start(["-m", "crp", "atlas", "mined.crp", "photos", "--trust"], cwd=shop.folder)
        predictions = shop.folder / "site" / "predictions"
        while not list(predictions.glob("*.json")) and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
        assert process.returncode == INTERRUPTED, stderr
        last = stderr.splitlines()[-1]
        assert last.startswith("Interrupted. ")
        assert last.endswith(" concept pages are complete in 'site'; the same command resumes from there.")
        assert all(path.with_suffix(".html").exists() for path in predictions.glob("*.json"))
        assert not list((shop.folder / "site").rglob("*.part"))


class TestInfo:
    def test_says_what_made_the_library(self, mined_shop):
        result = mined_shop.run("info", "mined.crp")
        lines = result.stdout.splitlines()
        assert lines[0].startswith("mined.crp: 2 layers, ")
        tables = [*TABLES, "class_references", "means"]
        assert lines[2].split() == ["layer", "output", "concepts", "patches", "made", *tables]
        assert lines[3].split()[:7] == ["0", "4", "x", "10", "x", "10", "4"]
        assert lines[4].split()[:8] == ["2", "5", "x", "8", "x", "8", "5", "13"]
        rows = dict(line.split("  ", 1) for line in lines[6:19])
        assert rows["made by"].split() == [
            *("crp", "mine", "net.py:make", "photos", "--layers", "0,2"),
            *("--references", "16", "--patches", "1", "--block-size", "32"),
        ]
        assert rows["explained"].strip().startswith("the labels of each sample; relevance starts as")
        assert rows["classes"].strip() == "3: ant, bee, wasp"
        # the model is code, which the library alone does not run
        code = f"--model {mined_shop.folder.resolve()}/net.py:make"
        assert f"Explain a picture:  crp atlas mined.crp picture.jpg {code}" in lines
        assert {name.removesuffix(":") for name in FAMILIES} == {name.removesuffix(":") for name in RUN_BY_NAME}
        assert lines[-1] == PRIVACY

    @pytest.mark.parametrize(
        ("model", "option"),
        [("demo", ""), ("demo:vit", ""), ("hf:folder", ""), ("demo.py:make", " --model demo.py:make")],
    )
    def test_code_is_told_from_models_by_name(self, model, option):
        assert _model_option(SimpleNamespace(manifest={"source": {"model": model}})) == option

    def test_as_json(self, mined_shop):
        told = json.loads(mined_shop.run("info", "mined.crp", "--json").stdout)
        library = mined_shop.folder / "mined.crp"
        assert told["manifest"] == json.loads((library / "manifest.json").read_text())
        assert told["layers"][1]["shape"] == [5, 8, 8]
        for layer in told["layers"]:
            for table, size in layer["bytes"].items():
                assert size == (library / "layers" / layer["name"] / f"{table}.safetensors").stat().st_size
        files = [file for file in library.rglob("*") if file.is_file() and file.name != "SHA256SUMS"]
        assert told["bytes"] == sum(file.stat().st_size for file in files)


class TestDemo:
    @pytest.mark.slow  # test_docs.py looks at the demo that the pages begin with, and explains its scene again
    @pytest.mark.parametrize(("network", "layer"), [("cnn", "conv5"), ("vit", "blocks.2")])
    def test_tells_the_story_in_a_folder_with_a_tilde(self, tmp_path, monkeypatch, network, layer):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir("/")
        one = replace(KINDS["scenes"], networks={network: (layer,)})  # one layer is enough, and faster
        monkeypatch.setattr("crp.cli.demo_command.KINDS", {"scenes": one})
        result = CliRunner().invoke(main, ["demo", "--out", "~/demo", "--samples", "100", "--model", network])
        assert result.exit_code == 0, result.output
        assert "'octagon'" in result.stdout
        assert f"Its strongest concept in {layer} is" in " ".join(result.stdout.split())
        files = {path.name for path in (tmp_path / "demo").iterdir()}
        assert files == {"library.crp", "scene.png", "atlas.html", "atlas.png"}
        library = str(tmp_path / "demo" / "library.crp")
        again = ["atlas", library, str(tmp_path / "demo" / "scene.png"), "--out", str(tmp_path / "b.json")]
        assert CliRunner().invoke(main, again).exit_code == 0
        assert json.loads((tmp_path / "b.json").read_text())["target"]["name"] == "octagon"
        # the library knows that it was made of 100 scenes, so patches can be made of them later
        assert len(data_of(open_library(library))) == 100


class TestNext:
    """The last line of output is a command that works when it is pasted into a shell."""

    def pasted(self, shop, stdout):
        (line,) = [line for line in stdout.splitlines() if line.startswith("Next:")]
        # the shell takes the command apart
        script = f"crp() {{ printf '%s\\0' \"$@\"; }}\n{line.removeprefix('Next:').strip()}"
        words = subprocess.run(script, shell=True, cwd=shop.folder, capture_output=True, text=True, check=True).stdout
        return crp(*words.split("\0")[:-1], folder=shop.folder)

    def test_after_mining_into_a_folder_with_a_quote_and_spaces(self, shop):
        (shop.folder / "net.py").rename(shop.folder / "my net's.py")
        (shop.folder / "photos").rename(shop.folder / "my photos")
        result = shop.run("mine", "my net's.py:make", "my photos", "--out", "a 'b' $c.crp", "--layers", "0")
        assert result.exit_code == 0, result.output
        done = self.pasted(shop, result.stdout)
        assert (done.returncode, done.stdout) == (0, "0.html\n"), done.stderr
        assert (shop.folder / "0.html").exists()

    def test_of_data_that_are_no_pictures(self, shop):
        inputs, labels = np.random.default_rng(0).random((6, 3, 12, 12), np.float32), np.arange(6) % 3
        np.savez(shop.folder / "inputs.npz", images=inputs, labels=labels)
        result = shop.run("mine", "net.py:make", "inputs.npz", "--out", "my x.crp", "--layers", "0", "--patches", 0)
        assert result.exit_code == 0, result.output
        done = self.pasted(shop, result.stdout)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("my x.crp: 1 layer, ")


class TestHome:
    def test_a_tilde_is_expanded_in_every_path(self, shop, monkeypatch):
        monkeypatch.setenv("HOME", str(shop.folder))
        monkeypatch.chdir("/")
        commands = (
            ("mine", "~/net.py:make", "~/photos", "--out", "~/t.crp", "--layers", "0", "--class-names", "~/three.txt"),
            ("info", "~/t.crp"),
            ("verify", "~/t.crp", "--data", "~/photos", "--model", "~/net.py:make"),
            ("classes", "~/t.crp", "0", "--concept", "1", "--plot", "~/plot.png"),
            ("atlas", "~/t.crp", "~/new.png", "--trust", "--out", "~/out/one.html"),
            ("atlas", "~/t.crp", "~/new.png", "--model", "~/net.py:make", "--out", "~/pages", "--format", "json"),
            ("atlas", "~/t.crp", "~/photos/ant", "--model", "~/net.py:make", "--out", "~/site", "--no-graph"),
        )
        (shop.folder / "three.txt").write_text("a\nb\nc\n")
        for words in commands:
            result = CliRunner().invoke(main, words)
            assert result.exit_code == 0, (words, result.output)
        for name in ("t.crp/manifest.json", "plot.png", "out/one.html", "pages/new.json", "site/index.html"):
            assert (shop.folder / name).exists(), name
        source = open_library(shop.folder / "t.crp").manifest["source"]
        assert (source["model"], source["data"]) == (f"{shop.folder}/net.py:make", f"{shop.folder}/photos")


class TestExitCodes:
    def test_success(self, mined_shop):
        result = crp("info", "mined.crp", folder=mined_shop.folder)
        assert (result.returncode, result.stderr) == (0, "")

    def test_a_mistake(self, mined_shop):
        result = crp("info", "none.crp", folder=mined_shop.folder)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr == "Error: There is no library 'none.crp': the folder does not exist.\n"

    def test_an_interruption(self, shop):
        result = shop.run("mine", "net.py:make", "net.py:Interrupts", "--out", "x.crp")
        assert result.exit_code == INTERRUPTED == 130
        assert result.stderr.splitlines()[-1] == "Interrupted. No incomplete file is left."
        assert not (shop.folder / "x.crp").exists()

    @pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
    def test_ctrl_c(self, shop):
        slow = shop.folder / "slow.py"
        slow.write_text(
            "import time, torch\n\n\nclass Slow:\n    def __len__(self):\n        return 9\n\n"
            "    def __getitem__(self, index):\n        open('started', 'w').close()\n"
            "        time.sleep(index * 60)\n        return torch.zeros(3, 12, 12)\n"
        )
        words = ["-m", "crp", "mine", "net.py:make", "slow.py:Slow", "--out", "x.crp"]
        process = processes.start(words, cwd=shop.folder)
        while not (shop.folder / "started").exists() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
        assert process.returncode == INTERRUPTED
        assert stderr.splitlines()[-1] == "Interrupted. No incomplete file is left."
        assert not list(shop.folder.glob("x.crp*"))
