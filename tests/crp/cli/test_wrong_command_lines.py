"""Wrong command lines: each ends in one clear sentence, and leaves every file as it was.

In the sentences "…" stands for words that are not ours (the system's, Pillow's, torch's) or that depend on the machine.
"""

import pytest

from tests import processes

from .conftest import OTHER_WEIGHTS, Shop, check

MINE = "mine net.py:make photos --out x.crp"
ATLAS = "atlas mined.crp new.png --trust --out a.html"
KINDS = (
    "'torchvision:NAME', 'timm:NAME', 'hf:FOLDER', 'demo', 'demo:vit', 'package.module:function' or "
    "'file.py:function'"
)
NO_LAYER = "there are '0', '1', '2', '3', '4', '5', '6', '7'."
RANDOM_WEIGHTS = "is random; give --weights FILE, or --weights DEFAULT for torchvision's own."
TOO_SMALL = "Calculated padded input size per channel: (1 x 1). Kernel size: (3 x 3). …"

COMMAND_LINES = [
    # what there is to run
    ("mines", "No such command 'mines'. …"),
    ("mine net.py:make photos", "Missing option '--out'."),
    ("atlas mined.crp", "Missing argument 'PICTURE...': give pictures, a folder of pictures, or only --site."),
    ("info", "Missing argument 'LIBRARY'."),
    ("demo --samples 3", "Invalid value for '--samples': 3 is not in the range x>=100."),
    # the model
    ("mine none.py:make photos --out x.crp", "There is no Python file 'none.py'."),
    ("mine net.py:made photos --out x.crp", "'net.py' has no 'made'; did you mean 'make'?"),
    (
        "mine net.py:no_model photos --out x.crp",
        "'net.py:no_model' gives a dict; it must be a torch.nn.Module, or a function without arguments that returns "
        "one.",
    ),
    (
        "mine net.py:fails photos --out x.crp",
        "'net.py:fails' raised ZeroDivisionError: division by zero (net.py, line 31).",
    ),
    (
        "mine net.py:not_finite photos --out x.crp",
        "The model's '2.weight' holds 1 NaN or infinite values of 180; it cannot be explained.",
    ),
    (
        "mine no_such.module:make photos --out x.crp",
        "There is no module 'no_such.module' to import; name a Python file as 'file.py:function', or install the "
        "package.",
    ),
    (
        "mine resnet18 photos --out x.crp",
        f"The model 'resnet18' is not {KINDS} (did you mean 'torchvision:resnet18'?).",
    ),
    ("mine model photos --out x.crp", f"The model 'model' is not {KINDS}."),
    (
        "mine torchvision:resnet81 photos --out x.crp",
        "torchvision has no classifier 'resnet81'; did you mean 'resnet18' …",
    ),
    (
        "mine torchvision:resnet18 photos --out x.crp",
        f"Without weights the model 'torchvision:resnet18' {RANDOM_WEIGHTS}",
    ),
    # its weights
    (f"{MINE} --weights none.safetensors", "There is no weights file 'none.safetensors'."),
    (
        f"{MINE} --weights text.png",
        "The weights file 'text.png' ends in '.png'; weights are read from '.safetensors', '.pt', '.pth', '.th', …",
    ),
    (
        f"{MINE} --weights broken.safetensors",
        "The weights file 'broken.safetensors' is damaged and cannot be read (…).",
    ),
    (
        f"{MINE} --weights whole.pt",
        "The weights file 'whole.pt' holds Python objects other than tensors, which are not loaded because they can "
        "run "
        "code; save model.state_dict() instead.",
    ),
    (
        f"{MINE} --weights other.pt",
        "The weights of 'other.pt' do not fit the model: 5 of the model's 6 entries are missing ('0.bias', '2.weight', "
        "'2.bias' and 2 more), 1 entries are not the model's ('classifier.weight'; …).",
    ),
    (
        f"{MINE} --weights DEFAULT",
        "--weights DEFAULT is for 'torchvision:NAME' and 'timm:NAME' models, but the model is 'net.py:make'; give a "
        "weights file.",
    ),
    # layers
    (f"{MINE} --layers layer5", f"The model has no layer 'layer5': {NO_LAYER}"),
    (f"{MINE} --layers 9*", f"The model has no layer '9*': {NO_LAYER}"),
    (
        f"{MINE} --layers 0,,2",
        "Invalid value for '--layers': '0,,2' has an empty name; give names separated by commas (layer3,layer4).",
    ),
    # preprocessing
    (
        f"{MINE} --size large",
        "Invalid value for '--size': 'large' is neither a number of pixels (224) nor HEIGHTxWIDTH (224x320).",
    ),
    (f"{MINE} --size 0", "The size is 0; it must be a number of pixels above 0, or a pair (height, width)."),
    (f"{MINE} --size 1", f"The model cannot run on 'ant/0.png' of shape [3, 1, 1]: {TOO_SMALL}"),
    (
        f"{MINE} --crop 64",
        "'photos/ant/0.png': The crop of 64 x 64 pixels does not fit into a picture of 12 x 12; give a size (now None) "
        "that makes pictures at least as large as the crop.",
    ),
    (
        f"{MINE} --mean a",
        "Invalid value for '--mean': 'a' is neither a number nor numbers separated by commas (0.5,0.5,0.5).",
    ),
    (f"{MINE} --mean 0.5,0.5", "The mean is (0.5, 0.5); it must be one finite number, or 3, one per channel."),
    (f"{MINE} --std 0", "The std is (0.0, 0.0, 0.0); every value must be above 0."),
    (f"{MINE} --preprocessing none.json", "The preprocessing 'none.json' cannot be read: No such file or directory."),
    (f"{MINE} --preprocessing two.txt", "The preprocessing 'two.txt' is not JSON (…)."),
    (
        f"{MINE} --preprocessing bad.json",
        "The file 'bad.json' does not hold a preprocessing: Preprocessing has no entry 'sizes'; did you mean 'size'?",
    ),
    # settings
    (f"{MINE} --class-names none.txt", "The class names 'none.txt' cannot be read: No such file or directory."),
    (f"{MINE} --class-names two.txt", "The subfolder 'wasp' of 'photos' is not a class name; there are 'ant', 'bee'."),
    (
        "mine net.py:make mixed --out x.crp --class-names two.txt",
        "There are 2 class names (two.txt), but the model has 3 classes; name all of them with --class-names FILE, or "
        "explain predictions with --targets prediction.",
    ),
    (f"{MINE} --targets truth", "Invalid value for '--targets': 'truth' is not 'label', …"),
    (f"{MINE} --references 0", "Invalid value for '--references': 0 is not in the range x>=1."),
    (f"{MINE} --references few", "Invalid value for '--references': 'few' is not a valid integer range."),
    (f"{MINE} --patches -1", "Invalid value for '--patches': -1 is not in the range x>=0."),
    (f"{MINE} --block-size 0", "Invalid value for '--block-size': 0 is not in the range x>=1."),
    (f"{MINE} --workers -1", "Invalid value for '--workers': -1 is not in the range x>=0."),
    (f"{MINE} --device gpu", "There is no device 'gpu' on this machine; there is …'cpu'."),
    (f"{MINE} --device cuda:77", "There is no device 'cuda:77' on this machine; there is …'cpu'."),
    # the data
    (
        "mine net.py:make none --out x.crp",
        "The data 'none' are not a folder, an .npz file, 'demo', 'package.module:function' or "
        "'file.py:function'.",
    ),
    ("mine net.py:make nothing --out x.crp", "The folder 'nothing' holds no pictures ('.jpg', …)."),
    ("mine net.py:make none.npz --out x.crp", "There is no data file 'none.npz'."),
    (
        "mine net.py:make other.npz --out x.crp",
        "The data file 'other.npz' cannot be read (it is not a complete .npz file).",
    ),
    (
        "mine net.py:make corrupt --out x.crp",
        "Sample 1 could not be read: The picture 'corrupt/b.jpg' is damaged and cannot be read (image file is "
        "truncated …).",
    ),
    (
        "mine net.py:make corrupt --out x.crp --workers 1",
        "Sample 1 could not be read: The picture 'corrupt/b.jpg' is damaged and cannot be read (image file is "
        "truncated …).",
    ),
    ("mine net.py:make dots --out x.crp", f"The model cannot run on 'a.png' of shape [3, 1, 1]: {TOO_SMALL}"),
    (
        "mine net.py:make mixed --out x.crp",
        "Sample 1 ('b.png') is torch.float32 of shape [3, 14, 14], sample 0 is torch.float32 of shape [3, 12, 12]; …",
    ),
    (
        "mine net.py:make mixed --out x.crp --targets label",
        "The data 'mixed' have no labels to explain; give --targets prediction.",
    ),
    (
        "mine net.py:make net.py:Stream --out x.crp",
        "'net.py:Stream' gives a Stream, whose samples cannot be read by index; a map-style data set with __len__ and "
        "__getitem__ is needed.",
    ),
    (
        "mine net.py:make net.py:Empty --out x.crp",
        "The data set 'net.py:Empty' is empty; at least one sample is needed.",
    ),
    (
        "mine net.py:make net.py:Random --out x.crp",
        "Sample 0 of the data set has other values when it is read again; …",
    ),
    ("mine net.py:make net.py:NotFinite --out x.crp", "Sample 2 holds NaN or infinite values."),
    (
        "mine net.py:make net.py:FarLabel --out x.crp",
        "Sample 1 has label 7, but the model has the classes 0 to 2.",
    ),
    # where the library goes
    ("mine net.py:make photos --out mined.crp", "The library 'mined.crp' exists: choose another path, or …"),
    (
        "mine net.py:make photos --out photos",
        "'photos' exists and is not a library: choose another path, or remove it yourself.",
    ),
    ("mine net.py:make photos --out file/x.crp", "No library can be written to 'file/x.crp': … ('file')."),
    # the library
    ("info none.crp", "There is no library 'none.crp': the folder does not exist."),
    ("info half.crp", "'half.crp/manifest.json' is damaged (not JSON: …): …"),
    ("atlas none.crp new.png", "There is no library 'none.crp': the folder does not exist."),
    ("atlas photos new.png", "'photos' is not a library: it holds no manifest.json."),
    ("atlas new.png new.png", "'new.png' is not a library: it holds no manifest.json."),
    ("atlas half.crp new.png --trust", "'half.crp/manifest.json' is damaged (not JSON: …): …"),
    ("atlas cut.crp new.png --trust", "'cut.crp/layers/2/patches.safetensors' is damaged (…): …"),
    ("atlas lost.crp new.png --trust", "'lost.crp/layers/2/patches.safetensors' is damaged (it is missing): …"),
    (
        "atlas mined.crp new.png",
        "The library 'mined.crp' names the model 'FOLDER/net.py:make', which is code that is not run without your "
        "consent; give "
        "--model 'FOLDER/net.py:make', or --trust if you trust the library.",
    ),
    ("atlas mined.crp new.png --model net.py:other", OTHER_WEIGHTS),
    ("atlas mined.crp new.png --model net.py:not_finite", "The model's '2.weight' holds 1 NaN or infinite values …"),
    # the picture
    ("atlas mined.crp none.png --trust", "There is no picture file 'none.png'."),
    ("atlas mined.crp new.png none.png --trust", "There is no picture file 'none.png'."),
    ("atlas mined.crp text.png --trust", "'text.png' is not a picture: it is a text that begins with 'not a picture'."),
    ("atlas mined.crp empty.png --trust", "'empty.png' is not a picture: the file is empty."),
    (
        "atlas mined.crp cut.jpg --trust",
        "The picture 'cut.jpg' is damaged and cannot be read (image file is truncated …).",
    ),
    # a site
    ("atlas mined.crp nothing --trust", "The folder 'nothing' holds no pictures ('.jpg', …)."),
    ("atlas mined.crp none.png --site --trust --out y", "There is no picture file 'none.png'."),
    ("atlas mined.crp photos --trust --format png", "--format is for single pages; a site is HTML."),
    ("atlas mined.crp photos --trust --out y.html", "--out y.html is one file; a site is a folder."),
    (
        "atlas mined.crp photos --trust --out photos",
        "'photos' exists and is not a site: choose another folder, or empty it.",
    ),
    ("atlas mined.crp photos --trust --out file/y", "No site can be written to 'file/y': … ('file/y')."),
    ("atlas mined.crp photos --trust --out y --target ent", "There is no class 'ent': did you mean 'ant'?"),
    ("atlas mined.crp photos --trust --out y --layers 3", "The library does not hold layer '3': there are '0', '2'."),
    ("atlas mined.crp dot.png --trust", f"The model cannot run on 'dot.png' of shape [3, 1, 1]: {TOO_SMALL}"),
    # what is asked of it
    (f"{ATLAS} --layers 1", "The library does not hold layer '1': there are '0', '2'."),
    (f"{ATLAS} --concepts 0", "Invalid value for '--concepts': 0 is not in the range x>=1."),
    (f"{ATLAS} --target wsap", "There is no class 'wsap': did you mean 'wasp'?"),
    (f"{ATLAS} --target -1", "There is no class -1: the model's output has the classes 0 to 2."),
    (f"{ATLAS} --target 3", "There is no class 3: the model's output has the classes 0 to 2."),
    (f"{ATLAS} --device tpu", "There is no device 'tpu' on this machine; there is …'cpu'."),
    # where the atlas goes
    (f"{ATLAS} --format png", "--out a.html is one file; for several pictures or formats give a folder."),
    (
        "atlas mined.crp new.png cut.jpg --trust --out a.html",
        "--out a.html is one file; for several pictures or formats give a folder.",
    ),
    (
        "atlas mined.crp new.png ./new.png --trust --out y",
        "'new.png' and './new.png' would both be written to y/new.html; explain them separately.",
    ),
    (
        "atlas mined.crp new.png --trust --format html --format png",
        "The atlas would replace the picture 'new.png': give another file or folder with --out.",
    ),
    (
        "atlas mined.crp ./new.png --trust --out new.png",
        "The atlas would replace the picture './new.png': give another file or folder with --out.",
    ),
    (
        "atlas mined.crp new.png --trust --format bmp",
        "Invalid value for '--format': 'bmp' is not one of 'html', 'png', 'pdf', 'svg', 'json', 'csv', 'dot'.",
    ),
    ("atlas mined.crp new.png --trust --out file/x.html", "The folder 'file' cannot be created: … ('file')."),
]


@pytest.mark.parametrize(("words", "sentence"), COMMAND_LINES, ids=[words for words, _ in COMMAND_LINES])
def test_on_the_command_line(spoilt: Shop, words: str, sentence: str) -> None:
    before = spoilt.files()
    result = spoilt.run(*words.split())
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    *_, last = result.stderr.replace(str(spoilt.folder), "FOLDER").splitlines()
    check(last, f"Error: {sentence}")
    assert result.stdout == ""
    assert spoilt.files() == before


def test_the_table_is_long_enough() -> None:
    assert len(COMMAND_LINES) >= 40


def test_a_process_says_it_on_stderr_and_exits_with_2(spoilt: Shop) -> None:
    result = processes.run(["-m", "crp", "atlas", "mined.crp", "dot.png", "--trust"], cwd=spoilt.folder)
    assert (result.returncode, result.stdout) == (2, "")
    check(result.stderr.rstrip("\n"), f"Error: The model cannot run on 'dot.png' of shape [3, 1, 1]: {TOO_SMALL}")
