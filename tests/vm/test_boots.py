"""Two boots of one kernel by KASLR, modules loaded in another order: no difference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from guests import KERNELS, in_vm

from command import ksyms

pytestmark = pytest.mark.vm

MODULES = ("dummy", "ext4", "nf_tables", "bridge")


@pytest.mark.parametrize("kernel", KERNELS)
def test_two_boots(kernel: str, tmp_path: Path) -> None:
    """Of the kernel, and of every module that both had loaded; one more is all there is."""
    orders = MODULES, ("loop", *reversed(MODULES))
    boots = [
        in_vm(KERNELS[kernel], tmp_path, "boot.py", f"{number}.elf", *order)
        for number, order in enumerate(orders)
    ]
    old, new = (list(boot["modules"]) for boot in boots)
    assert {*old, "loop"} == set(new)
    assert old != [name for name in new if name != "loop"], "the order was to be another"
    assert boots[0]["listed"] == boots[1]["listed"]
    assert {"[bpf]", "[__builtin__ftrace]"} <= set(boots[0]["listed"])
    done = ksyms("diff", "--json", tmp_path / "0.elf", tmp_path / "1.elf")
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    slide = int(boots[1]["_stext"], 16) - int(boots[0]["_stext"], 16)
    assert int(found["slide"], 16) == slide
    [module] = found["modules"].pop("appeared")
    assert (module["name"], len(module["symbols"])) == ("loop", boots[1]["modules"]["loop"])
    assert found["modules"] == {"went": []}
    lists = {name: found[name] for name in ("went", "appeared", "resized", "moved")}
    assert lists == {"went": [], "appeared": [], "resized": [], "moved": []}
