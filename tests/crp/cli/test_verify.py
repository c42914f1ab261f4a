import json


def test_from_the_shell(shop):
    result = shop.run("verify", "mined.crp", "--data", "photos", "--model", "net.py:make")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "The library is sound."
    table = shop.folder / "mined.crp/layers/2/patches.safetensors"
    table.write_bytes(table.read_bytes()[:-1])
    result = shop.run("verify", "mined.crp")
    assert result.exit_code == 1
    sentence = "'layers/2/patches.safetensors' does not hold what was written (its checksum differs)."
    assert f"WRONG  {sentence}" in result.stdout
    assert result.stdout.splitlines()[-1] == "The library is not sound."
    told = json.loads(shop.run("verify", "mined.crp", "--json").stdout)
    assert told["sound"] is False
    assert len(told["wrong"]) == 2
