-- A run.db of format 1.
CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE keywords (
    round INTEGER NOT NULL, domain TEXT NOT NULL, number INTEGER NOT NULL, keyword TEXT NOT NULL,
    PRIMARY KEY (round, domain, number));
CREATE TABLE passages (
    round INTEGER NOT NULL, domain TEXT NOT NULL, number INTEGER NOT NULL, id TEXT NOT NULL, title TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (round, domain, number));
CREATE TABLE patterns (round INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE samples (
    id TEXT PRIMARY KEY, round INTEGER NOT NULL, slot INTEGER NOT NULL, kind TEXT NOT NULL, input TEXT NOT NULL,
    output TEXT NOT NULL, dropped TEXT, parent TEXT REFERENCES samples (id), passage TEXT);
CREATE INDEX samples_by_slot ON samples (round, slot);
CREATE TABLE verdicts (sample TEXT PRIMARY KEY REFERENCES samples (id), label TEXT, dropped TEXT);
CREATE TABLE votes (
    sample TEXT NOT NULL REFERENCES samples (id), number INTEGER NOT NULL, answer TEXT,
    PRIMARY KEY (sample, number)) WITHOUT ROWID;      -- number 0 is the sample's own; NULL is unreadable
CREATE TABLE greedy_attempts (
    sample TEXT PRIMARY KEY REFERENCES samples (id), output TEXT NOT NULL, answer TEXT, solved INTEGER NOT NULL);
CREATE TABLE attempts (
    sample TEXT NOT NULL REFERENCES samples (id), number INTEGER NOT NULL, answer TEXT, times INTEGER NOT NULL,
    passed INTEGER NOT NULL,
    PRIMARY KEY (sample, number)) WITHOUT ROWID;      -- one row a distinct answer
CREATE TABLE scores (
    sample TEXT PRIMARY KEY REFERENCES samples (id), attempts INTEGER NOT NULL, passed INTEGER NOT NULL,
    score REAL NOT NULL);
CREATE TABLE selected (
    round INTEGER NOT NULL, place INTEGER NOT NULL, sample TEXT NOT NULL REFERENCES samples (id),
    PRIMARY KEY (round, place));
CREATE TABLE rewards (
    sample TEXT NOT NULL REFERENCES samples (id), step INTEGER NOT NULL, reward REAL NOT NULL,
    PRIMARY KEY (sample, step)) WITHOUT ROWID;
CREATE TABLE items (number INTEGER PRIMARY KEY, input TEXT NOT NULL, label TEXT NOT NULL);
CREATE TABLE evaluations (
    model TEXT NOT NULL, item INTEGER NOT NULL REFERENCES items (number), output TEXT NOT NULL, answer TEXT,
    correct INTEGER NOT NULL,
    PRIMARY KEY (model, item)) WITHOUT ROWID;
CREATE TABLE seconds (stage TEXT NOT NULL, sitting INTEGER NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (stage, sitting)) WITHOUT ROWID;
CREATE TABLE events (at REAL NOT NULL, level TEXT NOT NULL, text TEXT NOT NULL);

INSERT INTO run VALUES ('id', 'aa'), ('created', '1.0'), ('sittings', '1'), ('settings', 'x = 1'), ('paid_calls', '7'),
    ('input-demos', 'd'), ('passages-1', 'done'), ('passages-2', 'done'), ('selected-1', '2'),
    ('training-1', 'output: '), ('trained-1', 'done'), ('training-2', 'output: /models/mine'),
    ('unpaid-1', '{}'), ('unpaid-2', '{"initial": 3, "adapted": 1}');
INSERT INTO keywords VALUES (1, 'd', 0, 'k1'), (2, 'd', 0, 'k2');
INSERT INTO passages VALUES (1, 'd', 0, 'p1', 'title', 'text');
INSERT INTO patterns VALUES (1, 'pattern'), (2, '');
INSERT INTO samples VALUES ('1-00000', 1, 0, 'initial', 'q', 'o', NULL, NULL, 'p1'),
    ('1-00000h', 1, 0, 'harder', 'q', 'o', NULL, '1-00000', 'p1'),
    ('2-00000', 2, 0, 'initial', 'q', 'o', NULL, NULL, NULL);
INSERT INTO verdicts VALUES ('1-00000', 'a', NULL), ('2-00000', 'a', NULL);
INSERT INTO votes VALUES ('1-00000', 0, 'a');
INSERT INTO greedy_attempts VALUES ('1-00000', 'o', 'a', 1);
INSERT INTO scores VALUES ('1-00000', 4, 1, 0.25), ('1-00000h', 4, 0, 1.0);
INSERT INTO selected VALUES (1, 1, '1-00000'), (2, 1, '2-00000');
INSERT INTO rewards VALUES ('1-00000', 1, 0.5);
INSERT INTO items VALUES (0, 'q', 'a');
INSERT INTO evaluations VALUES ('base', 0, 'o', 'a', 1);
PRAGMA user_version = 1;
