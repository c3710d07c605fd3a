"""From a trained student to .tflite files: conversion, the check of what came out, metadata, the parity gate."""
