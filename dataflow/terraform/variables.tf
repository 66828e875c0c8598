variable "project" {
  description = "The Google Cloud project: of database, topics, jobs and templates."
  type        = string
}

variable "region" {
  description = "The region of jobs, function and repository: that of the database, or one in its multi-region."
  type        = string
}

variable "database" {
  description = "The Firestore database of documents and rows."
  type        = string
  default     = "(default)"
}

variable "database_location" {
  description = "Where the database is, as `gcloud firestore databases describe` says: nam5, eur3, or a region."
  type        = string
}

variable "name" {
  description = "The name of the streaming job, as in `boiler-beam deploy --name`."
  type        = string
}

variable "template" {
  description = "The folder of the templates, gs://BUCKET/templates/NAME/VERSION. Empty: no job and no schedule yet, or `boiler-beam deploy` starts them."
  type        = string
  default     = ""
}

variable "image" {
  description = "The image that the templates name; needed with a template."
  type        = string
  default     = ""
}

variable "consistency" {
  description = "`eventual`, or `commit`: no row holds a part of a commit, and rows are later."
  type        = string
  default     = "eventual"
  validation {
    condition     = contains(["eventual", "commit"], var.consistency)
    error_message = "Expected eventual or commit."
  }
}

variable "max_workers" {
  description = "The most workers of the streaming job, and of the backfill."
  type        = number
  default     = 4
}

variable "machine_type" {
  description = "The workers' machines."
  type        = string
  default     = "n2-standard-2"
}

variable "schedule" {
  description = "When the backfill runs, in UTC, as cron writes it."
  type        = string
  default     = "40 3 * * *"
}

variable "relay_wheel" {
  description = "The wheel of boiler_beam for the relay's function, boiler_beam-VERSION-py3-none-any.whl, in its folder."
  type        = string
  default     = "boiler_beam-0.1.0-py3-none-any.whl"
}

variable "relay_document_pattern" {
  description = "The documents whose events are relayed. A pattern of the domain collections spares calls for rows."
  type        = string
  default     = "{document=**}"
}

variable "max_delivery_attempts" {
  description = "After how many deliveries a message goes to the dead-letter topic; 0: never, as Dataflow needs it, which takes a message once and makes dead letters itself. For a follower of the embedded engine: 5 to 100."
  type        = number
  default     = 0
}

variable "alert_emails" {
  description = "Who gets the alerts."
  type        = list(string)
  default     = []
}

variable "lag_seconds" {
  description = "How old the oldest change may be before an alert."
  type        = number
  default     = 300
}
