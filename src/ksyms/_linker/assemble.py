"""Linker files with their regions and exact sizes, made from the raw files.

Nothing is read from sysfs here. The raw files have the modules' facts, and the generation that
was taken after them shows which modules have moved since the text was read.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .._typing import TYPE_CHECKING
from .addresses import LAST_ADDRESS, Range, page_end, page_start
from .boundaries import known_regions
from .bpf_symbols import extend_regions, image_ends
from .files import KERNEL_ID, Files, LinkerFile, Region
from .freed_functions import find_naming, freed_regions, pfx_padding
from .iomem import read_iomem
from .kallsyms_symbols import with_role
from .link_time import LinkTime, read_link_time
from .modules import Sections
from .region_input import RegionInput, count_unplaced
from .regions import inferred_regions
from .roles import kernel_listing, kernel_roles

if TYPE_CHECKING:
    from .exact_sizes import ExactSizes
    from .generation import Generation
    from .kallsyms import Kallsyms
    from .raw_files import RawFile, RawFiles
    from .root import Root

_Regions = dict[int, tuple[Region, ...]]


def assemble(
    raw: RawFiles, text: Kallsyms, later: Generation, root: Root, exact: ExactSizes
) -> Files:
    """Return the linker files with their regions and exact sizes.

    Args:
        raw: the linker files as they were read.
        text: the text of kallsyms.
        later: a generation that was taken after ``raw`` was read.
        root: the kernel's files.
        exact: the source of exact sizes.
    """
    landmarks, release = text.landmarks, raw.host.release
    files = exact.apply(_without_moved(raw.files, later), release, landmarks.get("_stext"))

    known = known_regions(landmarks, read_iomem(root, landmarks))
    listing = kernel_listing(files[0].symbols.letter, landmarks)
    role = kernel_roles(files[0].symbols, listing, known, landmarks)
    # The first file is the kernel.
    files[0] = files[0]._replace(symbols=with_role(files[0].symbols, role))

    inputs = [
        file.region_input(number, release) for number, file in enumerate(files, KERNEL_ID)
    ]
    named_to = landmarks.get("_end", 0) if listing == "all" else 0
    regions = inferred_regions(inputs, known, landmarks, named_to)
    files, regions = _with_programs(files, regions, inputs)
    regions[KERNEL_ID] = _sorted((*known, *regions.get(KERNEL_ID, ())))
    files, regions = _with_freed(files, regions)

    linked = _link_time(files[0], root, release, landmarks)
    return Files(
        files=tuple(
            _linker_file(one, file, regions.get(one.id, ())) for one, file in zip(inputs, files)
        ),
        generation=text.generation,
        host=raw.host,
        landmarks=landmarks,
        link_time=linked,
        absent=dict(root.absent),
        refused=exact.refused,
        lists=listing,
    )


def _without_moved(files: list[RawFile], later: Generation) -> list[RawFile]:
    """Return ``files``; modules that have gone or moved are without their facts from sysfs.

    sysfs was read after the text, so the facts can be of a later moment. A module has moved if
    its address or size in ``later`` is another one.
    """
    now = later.modules
    return [
        file
        if file.module is None or file.module.lies_as(now.get(file.name))
        else file._replace(sections=Sections(), build_id=None, btf=None)
        for file in files
    ]


def _with_programs(
    files: list[RawFile], regions: _Regions, inputs: list[RegionInput]
) -> tuple[list[RawFile], _Regions]:
    """Return ``files`` and ``regions`` with the ends of BPF programs, where these are known."""
    files = list(files)
    for number, file in enumerate(files, KERNEL_ID):
        if file.programs is not None:
            regions = extend_regions(regions, number, file.symbols)
            stops = image_ends(file.programs, inputs)
            files[number - KERNEL_ID] = file._replace(stops=stops)
    return files, regions


def _with_freed(files: list[RawFile], regions: _Regions) -> tuple[list[RawFile], _Regions]:
    """Return ``files`` and ``regions`` with the freed functions that still name addresses."""
    # The files with freed functions, in the order in which the text lists these: those of the
    # module that was freed last come first.
    masks = {n: file.freed for n, file in enumerate(files) if file.freed is not None}
    freed = sorted((n for n in masks if masks[n].any()), key=lambda n: files[n].freed_at)
    if not freed:
        return files, regions

    # Modules have whole pages, so a page on which there is a region is in use.
    taken = sorted(
        Range(page_start(r.start), page_end(max(r.end - 1, r.start)))
        for own in regions.values()
        for r in own
    )
    tables = [(files[n].symbols, masks[n]) for n in freed]
    found = find_naming(tables, taken, pfx_padding(files[0].symbols))

    files, regions = list(files), dict(regions)
    for number, functions in zip(freed, found):
        file = files[number]
        own = regions.get(number + KERNEL_ID, ())
        regions[number + KERNEL_ID] = _sorted(
            (*own, *freed_regions(file.name, functions.ranges))
        )
        symbols = with_role(file.symbols, functions.role)
        files[number] = file._replace(symbols=symbols, stops=functions.stops)
    return files, regions


def _sorted(regions: Iterable[Region]) -> tuple[Region, ...]:
    """Return ``regions``, sorted by address."""
    return tuple(sorted(regions, key=lambda region: (region.start, region.end)))


def _linker_file(one: RegionInput, file: RawFile, regions: tuple[Region, ...]) -> LinkerFile:
    """Return the linker file made from the raw file ``file``; ``one`` has its id."""
    # The end of the address space, 1 << 64, does not fit into 64 bits, and needs no stop.
    stops = {stop for stop in (*file.stops, *one.sections.ends) if 0 < stop <= LAST_ADDRESS}
    return LinkerFile(
        id=one.id,
        name=one.name,
        symbols=file.symbols,
        regions=regions,
        stops=np.array(sorted(stops), np.uint64),
        build_id=file.build_id,
        module=one.module,
        unplaced=count_unplaced(one),
        debug=file.debug.path if file.debug else None,
        btf=file.btf,
        programs=file.programs.functions if file.programs else (),
    )


def _link_time(
    kernel: RawFile, root: Root, release: str | None, landmarks: dict[str, int]
) -> LinkTime | None:
    """Return the kernel's link addresses, from its debug file if there is one."""
    # Called in any case, since it records in root.absent which System.map is missing.
    linked = read_link_time(root, release, landmarks)
    if kernel.debug is None or not {"_text", "_stext"} <= landmarks.keys():
        return linked
    slide, path = kernel.debug.slide, kernel.debug.path
    return LinkTime(landmarks["_text"] - slide, landmarks["_stext"] - slide, path)
