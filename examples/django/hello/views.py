import os

from django.shortcuts import render

from hello.models import Visit


def index(request):
    Visit.objects.create()
    return render(
        request,
        "hello/index.html",
        {
            "visits": Visit.objects.count(),
            "counted": Visit.objects.filter(counted=True).count(),
            "dyno": os.environ.get("DYNO", "this machine"),
        },
    )
