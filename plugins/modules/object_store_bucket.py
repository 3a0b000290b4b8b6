#!/usr/bin/python
# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a bucket of any S3 API to what backups need."""

from __future__ import annotations

DOCUMENTATION = r"""
module: object_store_bucket
short_description: Bring a bucket of any S3 API to what backups need
version_added: 0.1.0
description:
  - Makes a bucket with versions and Object Lock, and sets its default retention, policy and lifecycle rules.
  - Works with AWS and with any other server of the S3 API; it uses nothing that only AWS knows.
  - Never makes a retention shorter or its mode lower unless O(loosen) says so, and never removes a bucket.
author:
  - Contributors to the pharma.hardening project (@pharma-hardening)
extends_documentation_fragment:
  - pharma.hardening.attributes
options:
  bucket:
    description: Name of the bucket.
    type: str
    required: true
  endpoint:
    description: Address of the S3 API; without one, that of AWS.
    type: str
  region:
    description: Region of the bucket.
    type: str
    default: us-east-1
  addressing_style:
    description: Whether the bucket stands in the path or in the name of the host.
    type: str
    choices: [auto, path, virtual]
    default: auto
  ca_file:
    description: Authority of the endpoint's certificate; without one, those that are trusted where the module runs.
    type: path
  access_key:
    description: Access key of the bucket's owner; without one, boto3 looks where it always does.
    type: str
  secret_key:
    description: Secret key of the bucket's owner.
    type: str
  lock_mode:
    description: Mode of the default retention; without one there is no default retention.
    type: str
    choices: [GOVERNANCE, COMPLIANCE]
  lock_days:
    description: Days of the default retention.
    type: int
    default: 0
  policy:
    description: The bucket's policy; without one it is left alone.
    type: dict
  lifecycle:
    description: The bucket's lifecycle rules in the words of the S3 API; without them they are left alone.
    type: list
    elements: dict
  loosen:
    description: Allow a shorter retention or a lower mode than the bucket has.
    type: bool
    default: false
requirements:
  - python >= 3.11 and boto3 where the module runs, which is the controller in most cases
attributes:
  diff_mode:
    support: full
seealso:
  - module: pharma.hardening.pg_backup
"""

EXAMPLES = r"""
- name: Keep everything for 30 days, whoever asks
  pharma.hardening.object_store_bucket:
    bucket: pharma-backups
    endpoint: https://s3.example.com
    access_key: "{{ vault_owner_access_key }}"
    secret_key: "{{ vault_owner_secret_key }}"
    lock_mode: COMPLIANCE
    lock_days: 30
  delegate_to: localhost
"""

RETURN = r"""
changes:
  description: What was changed or would be, by name.
  returned: success
  type: list
  elements: str
  sample: [policy, lifecycle]
code:
  description: Stable code of the error, see docs/errors.md.
  returned: failure
  type: str
action:
  description: What to do next.
  returned: failure
  type: str
"""

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pharma.hardening.plugins.module_utils import ops_module
from ansible_collections.pharma.hardening.plugins.module_utils._ops import config
from ansible_collections.pharma.hardening.plugins.module_utils._ops.store import s3_bucket, s3_client

ARGUMENTS = {
    "bucket": {"type": "str", "required": True},
    "endpoint": {"type": "str"},
    "region": {"type": "str", "default": "us-east-1"},
    "addressing_style": {"type": "str", "choices": ["auto", "path", "virtual"], "default": "auto"},
    "ca_file": {"type": "path"},
    "access_key": {"type": "str", "no_log": False},
    "secret_key": {"type": "str", "no_log": True},
    "lock_mode": {"type": "str", "choices": ["GOVERNANCE", "COMPLIANCE"]},
    "lock_days": {"type": "int", "default": 0},
    "policy": {"type": "dict"},
    "lifecycle": {"type": "list", "elements": "dict"},
    "loosen": {"type": "bool", "default": False},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_together=[("access_key", "secret_key")],
        required_if=[
            ("lock_mode", "GOVERNANCE", ("lock_days",)),
            ("lock_mode", "COMPLIANCE", ("lock_days",)),
        ],
    )
    params = module.params
    if bool(params["lock_mode"]) is not (params["lock_days"] > 0):
        module.fail_json(msg="lock_mode and lock_days (above 0) go together")

    def action() -> dict:
        spec = config.Store(
            type="s3",
            bucket=params["bucket"],
            endpoint=params["endpoint"],
            region=params["region"],
            addressing_style=params["addressing_style"],
            ca_file=Path(params["ca_file"]) if params["ca_file"] else None,
        )
        where = f"s3://{params['bucket']} at {params['endpoint'] or 'AWS ' + params['region']}"
        named = {name: params[name] for name in ("access_key", "secret_key") if params[name]}
        wanted = s3_bucket.Bucket(
            lock_mode=params["lock_mode"] or "",
            lock_days=params["lock_days"],
            policy=params["policy"],
            lifecycle=params["lifecycle"],
        )
        changes, before, after = s3_bucket.ensure(
            s3_client.connect(spec, where, named),
            params["bucket"],
            wanted,
            region=params["region"],
            loosen=params["loosen"],
            check=module.check_mode,
            where=where,
        )
        diff = {
            "before": json.dumps(before.as_dict(), indent=2, sort_keys=True) + "\n",
            "after": json.dumps((after if changes else before).as_dict(), indent=2, sort_keys=True) + "\n",
        }
        return {"changed": bool(changes), "changes": changes, "diff": diff}

    ops_module.run(module, action)


if __name__ == "__main__":
    main()
