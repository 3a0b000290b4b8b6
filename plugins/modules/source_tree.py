#!/usr/bin/python
# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a directory of a host equal to a tree of sources on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: source_tree
short_description: Keep a directory equal to a tree of Python sources on the controller
version_added: 0.1.0
description:
  - Writes every C(.py) file below O(src) to the same place below O(dest), and removes what is there and no longer in
    O(src). C(__pycache__) is left alone.
  - One transfer for the whole tree, whereas M(ansible.builtin.copy) makes several for each file and removes nothing.
author:
  - Contributors to the pharma.hardening project (@pharma-hardening)
extends_documentation_fragment:
  - pharma.hardening.attributes
options:
  src:
    description: Directory on the controller.
    type: path
    required: true
  dest:
    description: Directory on the host; it and its parent directories are made.
    type: path
    required: true
  files:
    description: Path below O(src) to text, filled in on the controller from O(src).
    type: dict
attributes:
  diff_mode:
    support: full
    details:
      - Names the files, not their lines.
seealso:
  - module: ansible.builtin.copy
"""

EXAMPLES = r"""
- name: Copy the engine to the host
  pharma.hardening.source_tree:
    src: "{{ role_path }}/../../plugins/module_utils/_ops"
    dest: /usr/local/lib/pharma-ops/pharma_ops
  become: true
"""

RETURN = r"""
written:
  description: Files that were new or different.
  returned: success
  type: list
  elements: str
removed:
  description: Files that are no longer in the source.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pharma.hardening.plugins.module_utils._ops.files import write_atomic

_CACHE = "__pycache__"


def present(root: Path) -> dict[str, Path]:
    """The files below a directory by their relative path, caches left out."""
    return {
        str(path.relative_to(root)): path
        for path in root.rglob("*")
        if (path.is_symlink() or not path.is_dir()) and _CACHE not in path.relative_to(root).parts
    }


def different(path: Path, text: str) -> bool:
    """Whether a file does not hold this text with mode 0644."""
    if path.is_symlink() or not path.is_file():
        return True
    return path.stat().st_mode & 0o7777 != 0o644 or path.read_bytes() != text.encode()


def write(root: Path, name: str, text: str) -> None:
    """Write one file and make its directories."""
    path = root / name
    missing = [parent for parent in path.parents if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir()
        parent.chmod(0o755)
    write_atomic(path, text.encode(), 0o644)


def remove(root: Path, path: Path) -> None:
    """Remove one file and the directories below the root that it leaves empty."""
    path.unlink()
    for parent in path.parents:
        if parent == root or any(parent.iterdir()):
            break
        parent.rmdir()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "src": {"type": "path", "required": True},
            "dest": {"type": "path", "required": True},
            "files": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    root, wanted = Path(module.params["dest"]), module.params["files"]
    if not wanted:
        module.fail_json(msg=f"No Python file was found below {module.params['src']} on the controller.")
    there = present(root)
    written = sorted(name for name, text in wanted.items() if different(root / name, text))
    removed = sorted(there.keys() - wanted.keys())
    if not module.check_mode:
        for name in removed:
            remove(root, there[name])
        for name in written:
            write(root, name, wanted[name])
    module.exit_json(
        changed=bool(written or removed),
        written=written,
        removed=removed,
        diff={
            "before": "".join(f"{name}\n" for name in sorted({*removed, *(there.keys() & set(written))})),
            "after": "".join(f"{name}\n" for name in written),
        },
    )


if __name__ == "__main__":
    main()
