"""The tables of the audit log, and what older ones lack of them.

Knows SQL; no entry, no file.
"""

from __future__ import annotations

import sqlite3

VERSION = 4
"""Of the tables; SQLite's `user_version`. 0 is a new file. 1 knew no thoughts."""
APPLICATION = 0x4F504552
"""SQLite's `application_id`: OPER."""

_TABLES = """
CREATE TABLE groups (
  key INTEGER PRIMARY KEY,
  time REAL NOT NULL, request_id TEXT, run_id TEXT, step INTEGER, group_id TEXT NOT NULL, task TEXT NOT NULL,
  reward TEXT NOT NULL, preset TEXT NOT NULL, config TEXT NOT NULL, config_hash TEXT NOT NULL,
  model TEXT NOT NULL, revision TEXT NOT NULL, weight_version TEXT NOT NULL, dtype TEXT NOT NULL,
  engine TEXT NOT NULL, initial_mean_logprob REAL,
  prompt TEXT, prompt_is_messages INTEGER NOT NULL, prompt_token_ids TEXT,
  reference TEXT, reference_token_ids TEXT, reference_tokens INTEGER, expected INTEGER, diagnostics TEXT,
  superseded INTEGER NOT NULL DEFAULT 0,
  second_model TEXT, second_revision TEXT, second_weight_version TEXT
);
CREATE INDEX groups_by_run ON groups (run_id, step);
CREATE TABLE trajectories (
  group_key INTEGER NOT NULL REFERENCES groups (key), position INTEGER NOT NULL,
  id TEXT NOT NULL, fresh INTEGER NOT NULL, status TEXT NOT NULL, reward REAL, components TEXT, mean_logprob REAL,
  flags TEXT NOT NULL, error TEXT, response TEXT, response_token_ids TEXT, response_tokens INTEGER, segments TEXT,
  turns TEXT, response_mask TEXT,
  PRIMARY KEY (group_key, position)
) WITHOUT ROWID;
"""
_FROM_1 = """
ALTER TABLE groups ADD COLUMN reference_tokens INTEGER;
ALTER TABLE groups ADD COLUMN expected INTEGER;
ALTER TABLE groups ADD COLUMN diagnostics TEXT;
ALTER TABLE groups ADD COLUMN superseded INTEGER NOT NULL DEFAULT 0;
ALTER TABLE trajectories ADD COLUMN response_tokens INTEGER;
ALTER TABLE trajectories ADD COLUMN segments TEXT;
"""
_FROM_2 = """
ALTER TABLE trajectories ADD COLUMN turns TEXT;
ALTER TABLE trajectories ADD COLUMN response_mask TEXT;
"""
_FROM_3 = """
ALTER TABLE groups ADD COLUMN second_model TEXT;
ALTER TABLE groups ADD COLUMN second_revision TEXT;
ALTER TABLE groups ADD COLUMN second_weight_version TEXT;
"""
_CHANGES = ("", _FROM_1, _FROM_2, _FROM_3)
"""By version: what the tables of the next one have that it had not."""


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables in a new database, or bring those of an older version up to this one."""
    version = pragma(connection, "user_version")
    if version < VERSION:
        connection.executescript(
            f"BEGIN IMMEDIATE; {_TABLES if version == 0 else ''.join(_CHANGES[version:])} "
            f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;"
        )


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Return the number that the database keeps under `name`."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
