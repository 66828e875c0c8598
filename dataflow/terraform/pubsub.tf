resource "google_pubsub_topic" "changes" {
  name       = "changes"
  depends_on = [google_project_service.needed]
}

resource "google_pubsub_subscription" "views" {
  name                       = var.name
  topic                      = google_pubsub_topic.changes.id
  ack_deadline_seconds       = 60
  message_retention_duration = "604800s"
  expiration_policy {
    ttl = ""
  }
  dynamic "dead_letter_policy" {
    for_each = var.max_delivery_attempts > 0 ? [var.max_delivery_attempts] : []
    content {
      dead_letter_topic     = google_pubsub_topic.undelivered.id
      max_delivery_attempts = dead_letter_policy.value
    }
  }
}

# Messages that a follower never acknowledged.
resource "google_pubsub_topic" "undelivered" {
  name       = "${var.name}-undelivered"
  depends_on = [google_project_service.needed]
}

resource "google_pubsub_subscription" "undelivered" {
  name                       = "${var.name}-undelivered"
  topic                      = google_pubsub_topic.undelivered.id
  message_retention_duration = "604800s"
  expiration_policy {
    ttl = ""
  }
}

# Inputs and rows that could not be used: `boiler-beam dead-letters list|replay pubsub:SUBSCRIPTION`.
resource "google_pubsub_topic" "dead_letters" {
  name       = "${var.name}-dead-letters"
  depends_on = [google_project_service.needed]
}

resource "google_pubsub_subscription" "dead_letters" {
  name                       = "${var.name}-dead-letters"
  topic                      = google_pubsub_topic.dead_letters.id
  ack_deadline_seconds       = 60
  message_retention_duration = "2678400s"
  expiration_policy {
    ttl = ""
  }
}
