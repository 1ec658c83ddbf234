-- The printers that documents may go to, and the prints that wait for somebody's judgement. A program that knows nothing
-- of them can use this file: what it stores of a print then waits for nobody.

-- Every printer that was ever adopted, with what it is known by (staff.Adopted). Who adopted it, and why somebody accepted
-- that it is spoken to in the clear, stands in the body: of the staff, never of a citizen.
CREATE TABLE printer (
  uuid    TEXT PRIMARY KEY,
  body    TEXT NOT NULL, -- JSON
  updated TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- undecided: 1 while nobody has said what came out of an uncertain print; 2 the same, stored when the time was not certain;
-- -1 when somebody has
ALTER TABLE print ADD COLUMN undecided INTEGER NOT NULL DEFAULT 0;
CREATE INDEX print_undecided ON print (undecided) WHERE undecided > 0;
UPDATE print SET undecided = 2
WHERE closed = 1 AND CASE WHEN json_valid(body) THEN json_extract(body, '$.State') END = 'uncertain';
